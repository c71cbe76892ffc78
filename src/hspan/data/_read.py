"""Files to 8-bit RGB arrays, the only form that training and its caches work on."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hspan.errors import InputError

_EIGHT_BIT = {"1", "L", "P", "LA", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}


def read_rgb(path: Path) -> np.ndarray:
    """Read an image as training sees it: upright, RGB, without transparency, 8 bits.

    Pillow alone is enough for files of 8 bits, so that machines which only train need no other
    decoder; the rest goes through ``hspan.imaging``.

    Args:
        path: the file.

    Returns:
        [H, W, 3], uint8.

    Raises:
        InputError: the file is missing, damaged or no image.
    """
    try:
        with Image.open(path) as image:
            if image.mode in _EIGHT_BIT:
                return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable image ({error})") from error
    return _read_deep(path)


def _read_deep(path: Path) -> np.ndarray:
    from hspan.imaging import read_image

    pixels = read_image(path).pixels
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257)
    elif pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(pixels, 0, 1) * 255)
    return np.broadcast_to(pixels.astype(np.uint8), (*pixels.shape[:2], 3)).copy()

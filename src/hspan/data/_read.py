"""Files to 8-bit RGB arrays, the only form that training and its caches work on."""

from pathlib import Path
from typing import Literal, cast

import numpy as np
from PIL import Image, ImageOps

from hspan.data._layout import ImagePair
from hspan.errors import InputError
from hspan.imaging import degrade, imresize, read_image, to_uint8

# Modes of Pillow that lose nothing when converted to RGB of 8 bits.
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
    pixels = to_uint8(read_image(path).pixels)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy()


def load_pair(
    pair: ImagePair, scale: int, kind: str = "BI", size: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Read one HR image and its LR version, making the latter where there is no file.

    Args:
        pair: the files.
        scale: ratio of HR to LR.
        kind: degradation for LR images that are made, "BI" or "BD".
        size: below 1, what the HR image is reduced by first, bicubically; its LR version is then
            always made.

    Returns:
        HR [scale * H, scale * W, 3] and LR [H, W, 3], uint8 RGB.

    Raises:
        InputError: a file can't be read, is smaller than ``scale``, or the sizes don't fit.
        UsageError: a ``scale`` that ``kind`` doesn't have.
    """
    if size < 1:
        hr, lr = _cropped(imresize(read_rgb(pair.hr), size), scale, pair.hr), None
    else:
        hr, lr = read_pair(pair, scale)
    return hr, degrade(hr, scale, cast(Literal["BI", "BD"], kind)) if lr is None else lr


def read_pair(pair: ImagePair, scale: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Read one HR image, cropped to a multiple of the scale, and its LR version if it has a file.

    Args:
        pair: the files.
        scale: ratio of HR to LR.

    Returns:
        HR [scale * H, scale * W, 3] and LR [H, W, 3] or None, uint8 RGB.

    Raises:
        InputError: a file can't be read, is smaller than ``scale``, or the sizes don't fit.
    """
    hr = _cropped(read_rgb(pair.hr), scale, pair.hr)
    if pair.lr is None:
        return hr, None
    lr = read_rgb(pair.lr)
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    if lr.shape[:2] != (height, width):
        raise InputError(
            f"{pair.lr}: is {lr.shape[1]}×{lr.shape[0]}, but {pair.hr.name} reduced by {scale} "
            f"is {width}×{height}"
        )
    return hr, lr


def _cropped(hr: np.ndarray, scale: int, path: Path) -> np.ndarray:
    """The part of an HR image whose sides are multiples of the scale."""
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    if not height or not width:
        raise InputError(f"{path}: {hr.shape[1]}×{hr.shape[0]} is too small for scale {scale}")
    return hr[: height * scale, : width * scale]

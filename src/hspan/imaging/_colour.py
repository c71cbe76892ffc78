"""Colour conversion: luma of ITU-R BT.601 in studio swing, the Y that the field scores on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hspan.errors import InputError
from hspan.imaging._arrays import check_image, is_tensor

if TYPE_CHECKING:
    from torch import Tensor

Image = TypeVar("Image", "np.ndarray", "Tensor")

# Y = 16 + 65.481 R + 128.553 G + 24.966 B for R, G, B in [0, 1]; black is 16, white 235.
_LUMA = (65.481, 128.553, 24.966)
_BLACK = 16.0


def rgb_to_y(image: Image) -> Image:
    """Luma (Y of YCbCr, BT.601 studio swing), neither rounded nor clipped.

    Args:
        image: RGB, an array H×W×3 or a tensor [..., 3, H, W]. uint8 counts to 255, uint16 to 65535,
            floating point to 1.

    Returns:
        H×W or [..., H, W] in units of the input: 16 to 235 for uint8, 16/255 to 235/255 for
        floating point. float64 for whole numbers, else the dtype of the input.

    Raises:
        InputError: not an RGB image.
    """
    check_image(image)
    if is_tensor(image):
        if image.ndim < 3 or image.shape[-3] != 3:
            raise InputError(f"an RGB tensor is [..., 3, H, W], got shape {list(image.shape)}")
        whole = not image.is_floating_point()
        peak = _peak(str(image.dtype).removeprefix("torch."))
        red, green, blue = (image.double() if whole else image).unbind(-3)
        return _weigh(red, green, blue, peak)
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"an RGB array is height×width×3, got shape {image.shape}")
    exact = image.astype(np.float64) if image.dtype.kind == "u" else image
    return _weigh(exact[..., 0], exact[..., 1], exact[..., 2], _peak(image.dtype.name))


def _peak(dtype: str) -> float:
    return {"uint8": 255.0, "uint16": 65535.0}.get(dtype, 1.0)


def _weigh(red: Image, green: Image, blue: Image, peak: float) -> Image:
    weighted = red * (_LUMA[0] / 255) + green * (_LUMA[1] / 255) + blue * (_LUMA[2] / 255)
    return weighted + _BLACK / 255 * peak

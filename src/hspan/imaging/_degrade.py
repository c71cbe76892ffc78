"""How benchmarks make the small image (LR) out of the large one (HR).

BI   bicubic reduction by 2, 3, 4, ...           imresize(HR, 1 / scale)
BD   blur by a 7×7 Gaussian of standard deviation 1.6 with replicated border, then every third pixel
     at the centre phase: rows and columns 1, 4, 7, ... counted from 0. Only for scale 3.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from hspan.errors import InputError, UsageError
from hspan.imaging._arrays import check_image, is_tensor, spatial_size
from hspan.imaging._bands import Band, make_bands
from hspan.imaging._resize import imresize, resample

if TYPE_CHECKING:
    from torch import Tensor

Image = TypeVar("Image", "np.ndarray", "Tensor")

_BLUR_SIDE = 7
_BLUR_SIGMA = 1.6
_BLUR_STEP = 3


def crop_to_multiple(image: Image, scale: int) -> Image:
    """Cut off the bottom rows and right columns beyond a multiple of `scale`.

    Args:
        image: an array H×W or H×W×C, or a tensor [..., H, W].
        scale: a whole number above 0.

    Returns:
        A view of the input.

    Raises:
        UsageError: `scale` isn't a whole number above 0.
        InputError: not an image, or smaller than `scale`.
    """
    check_image(image)
    if scale != int(scale) or scale < 1:
        raise UsageError(f"scale must be a whole number above 0, got {scale}")
    height, width = spatial_size(image)
    rows, columns = (int(length // scale * scale) for length in (height, width))
    if not rows or not columns:
        raise InputError(f"an image of {width}×{height} pixels is too small for scale {scale}")
    if is_tensor(image):
        return image[..., :rows, :columns]
    return image[:rows, :columns]


def degrade(image: Image, scale: int, kind: Literal["BI", "BD"] = "BI") -> Image:
    """Make the LR image of an HR image.

    Args:
        image: HR, as `imresize` takes it; cropped to a multiple of `scale` first.
        scale: a whole number above 0; 3 for "BD".
        kind: "BI" bicubic, or "BD" blur and decimation.

    Returns:
        LR, of the kind, layout and dtype of the input.

    Raises:
        UsageError: unknown `kind`, or a `scale` that it doesn't have.
        InputError: not an image, or smaller than `scale`.
    """
    if kind not in ("BI", "BD"):
        raise UsageError(f"kind must be 'BI' (bicubic) or 'BD' (blur, decimate), got {kind!r}")
    if kind == "BD" and scale != _BLUR_STEP:
        raise UsageError(f"kind 'BD' exists for scale 3 only, got scale {scale}")
    image = crop_to_multiple(image, scale)
    if kind == "BI":
        return imresize(image, 1 / scale)
    height, width = spatial_size(image)
    # A two-dimensional filter rounds once, so nothing is rounded between its two factors.
    return resample(image, _blur_bands(height), _blur_bands(width), round_between=False)


def blur_taps() -> tuple[np.ndarray, int]:
    """BD along one dimension: weights around every centre, and the distance between centres."""
    taps = np.arange(_BLUR_SIDE) - _BLUR_SIDE // 2
    weights = np.exp(-(taps**2) / (2 * _BLUR_SIGMA**2))
    return weights / weights.sum(), _BLUR_STEP


@lru_cache(maxsize=64)
def _blur_bands(length: int) -> tuple[Band, ...]:
    weights, step = blur_taps()
    taps = np.arange(len(weights)) - len(weights) // 2
    centres = np.arange(step // 2, length, step)
    indices = (centres[:, None] + taps).clip(0, length - 1)
    return tuple(make_bands(indices, np.broadcast_to(weights, indices.shape)))

"""Bicubic resizing that gives what MATLAB's imresize gives.

Cubic convolution with a = -1/2 (Keys, 1981), one pass per dimension, half-pixel centres, borders
mirrored symmetrically (... 1 0 | 0 1 ...), and, when shrinking, the kernel stretched by 1 / scale
so that it also removes what the smaller grid can't hold. With input n counted from 0, output m lies
at n = (m + 1/2) / scale - 1/2.

The details that decide the last bit: the dimension with the smaller scale comes first (rows when
equal), and images of whole numbers are rounded (half away from zero) and clipped after each pass.
Sums are float64 there: at scales 1/2 and 1/4 weights are multiples of 2**-12, so that nothing is
lost and ties stay ties; at 1/3 they are multiples of 1/81, and a sum never ends on a tie.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hspan.errors import UsageError
from hspan.imaging._arrays import check_image, is_tensor, spatial_size, to_planar
from hspan.imaging._bands import Band, filter_array, filter_tensor, make_bands

if TYPE_CHECKING:
    from torch import Tensor

Image = TypeVar("Image", "np.ndarray", "Tensor")


def imresize(
    image: Image, scale: float | None = None, size: tuple[int, int] | None = None
) -> Image:
    """Resize by cubic convolution, as MATLAB's ``imresize(image, scale)`` does.

    Args:
        image: an array H×W or H×W×C, or a tensor [..., H, W]; uint8, uint16 (rounded and clipped
            after each pass) or floating point (any range, neither rounded nor clipped; float16 and
            bfloat16 are summed in float32). Floating-point tensors are differentiable.
        scale: factor for both dimensions, above 0; the output has ceil(scale · H) rows and
            ceil(scale · W) columns.
        size: (height, width) of the output instead, each dimension then having its own factor.

    Returns:
        The resized image, of the kind, layout and dtype of the input.

    Raises:
        UsageError: neither or both of `scale` and `size`, or values that aren't positive.
        InputError: not an image: see the types and layouts above.
    """
    check_image(image)
    height, width = spatial_size(image)
    if (scale is None) == (size is None):
        raise UsageError("give imresize either scale or size=(height, width)")
    if scale is not None:
        if not (math.isfinite(scale) and scale > 0):
            raise UsageError(f"scale must be a finite number above 0, got {scale}")
        target = (math.ceil(scale * height), math.ceil(scale * width))
        scales = (float(scale), float(scale))
    else:
        target = _checked_size(size)
        scales = (target[0] / height, target[1] / width)
    row_bands = _bicubic_bands(height, target[0], scales[0])
    column_bands = _bicubic_bands(width, target[1], scales[1])
    return resample(image, row_bands, column_bands, rows_first=scales[0] <= scales[1])


def resample(
    image: Image,
    row_bands: tuple[Band, ...],
    column_bands: tuple[Band, ...],
    *,
    rows_first: bool = True,
    round_between: bool = True,
) -> Image:
    """Filter both dimensions of an image in its own layout and dtype.

    Args:
        image: as `imresize` takes it, already checked.
        row_bands: the filter that makes output rows of input rows.
        column_bands: the same for columns.
        rows_first: whether rows are combined before columns.
        round_between: whether images of whole numbers are rounded after the first pass too.
    """
    if is_tensor(image):
        return _resample_tensor(image, row_bands, column_bands, rows_first, round_between)
    height, width = row_bands[-1].stop, column_bands[-1].stop
    out = np.empty((height, width, *image.shape[2:]), image.dtype)
    _resample_planar(
        to_planar(image), to_planar(out), row_bands, column_bands, rows_first, round_between
    )
    return out


def _resample_planar(
    source: np.ndarray,
    out: np.ndarray,
    row_bands: tuple[Band, ...],
    column_bands: tuple[Band, ...],
    rows_first: bool,
    round_between: bool,
) -> None:
    whole = source.dtype.kind == "u"
    dtype = np.dtype(np.float64 if whole or source.dtype == np.float64 else np.float32)
    *lead, height, width = source.shape
    between_shape = (*lead, out.shape[-2], width) if rows_first else (*lead, height, out.shape[-1])
    between = np.empty(between_shape, source.dtype if whole and round_between else dtype)
    first, second = (row_bands, column_bands) if rows_first else (column_bands, row_bands)
    filter_array(source, first, rows=rows_first, dtype=dtype, out=between)
    filter_array(between, second, rows=not rows_first, dtype=dtype, out=out)


def _resample_tensor(
    image: Tensor,
    row_bands: tuple[Band, ...],
    column_bands: tuple[Band, ...],
    rows_first: bool,
    round_between: bool,
) -> Tensor:
    import torch

    if not image.is_floating_point():
        source = image.cpu().numpy()
        shape = (*source.shape[:-2], row_bands[-1].stop, column_bands[-1].stop)
        out = np.empty(shape, source.dtype)
        _resample_planar(source, out, row_bands, column_bands, rows_first, round_between)
        return torch.from_numpy(out).to(image.device)
    exact = image.float() if image.dtype in (torch.float16, torch.bfloat16) else image
    first, second = (row_bands, column_bands) if rows_first else (column_bands, row_bands)
    between = filter_tensor(exact, first, rows=rows_first)
    return filter_tensor(between, second, rows=not rows_first).to(image.dtype)


def _checked_size(size: Any) -> tuple[int, int]:
    try:
        height, width = (int(length) for length in size)
        whole = (height, width) == tuple(size)
    except (TypeError, ValueError):
        height, width, whole = 0, 0, False
    if not whole or height < 1 or width < 1:
        raise UsageError(f"size must be two whole numbers (height, width) above 0, got {size}")
    return height, width


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' kernel: weight at a distance in input pixels."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


@lru_cache(maxsize=64)
def _bicubic_bands(length: int, target: int, scale: float) -> tuple[Band, ...]:
    return banded_kernel(cubic, 4.0, length, target, scale)


def banded_kernel(
    kernel: Callable[[np.ndarray], np.ndarray],
    width: float,
    length: int,
    target: int,
    scale: float,
) -> tuple[Band, ...]:
    """The resizing filter of one dimension.

    Args:
        kernel: weight at a distance, before stretching.
        width: the distance over which the kernel isn't zero, both sides together.
        length: inputs.
        target: outputs.
        scale: outputs per input.
    """
    squeeze = min(scale, 1.0)  # antialiasing: below 1, distances shrink and the kernel widens
    width /= squeeze
    centre = (np.arange(target) + 0.5) / scale - 0.5
    # One tap more on each side than can be needed: rounding of `centre` never costs a tap.
    first = np.floor(centre - width / 2).astype(np.int64)
    indices = first[:, None] + np.arange(math.ceil(width) + 2)  # [N, P]
    weights = kernel(squeeze * (centre[:, None] - indices))
    weights /= weights.sum(axis=1, keepdims=True)
    phase = indices % (2 * length)  # ... 1 0 | 0 1 ... n-1 | n-1 ... has period 2n
    mirrored = np.minimum(phase, 2 * length - 1 - phase)
    return tuple(make_bands(mirrored, weights))

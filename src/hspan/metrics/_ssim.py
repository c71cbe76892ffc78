"""Structural similarity (Wang et al., 2004) with its authors' constants.

Window 11×11 Gaussian, standard deviation 1.5; only windows that lie inside the image; K1 = 0.01,
K2 = 0.03, L = 255; variances without Bessel's correction.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from hspan.errors import InputError
from hspan.imaging._bands import Band, filter_array, make_bands
from hspan.metrics._protocol import PEAK, Channel, Grey, comparable

_SIDE = 11
_SIGMA = 1.5
_C1 = (0.01 * PEAK) ** 2
_C2 = (0.03 * PEAK) ** 2


def ssim(
    sr: np.ndarray, hr: np.ndarray, border: int, channel: Channel = "y", grey: Grey = "replicate"
) -> float:
    """SSIM, the mean over all windows (and over channels for "rgb").

    Args:
        sr: uint8, H×W×3, H×W or H×W×1.
        hr: the same shape.
        border: pixels to leave out on every side; the benchmarks leave out `scale`.
        channel: "y" compares luma, "rgb" each channel by itself.
        grey: with "y", whether a one-channel image is scored as luma of its replicated RGB image
            ("replicate") or on its own values ("raw").

    Returns:
        At most 1, which is reached by equal images.

    Raises:
        UsageError: unknown `channel` or `grey`, or a negative `border`.
        InputError: not uint8, shapes that differ, or fewer than 11 pixels left inside the border.
    """
    first, second = comparable(sr, hr, border, channel, grey)
    if min(first.shape[1:]) < _SIDE:
        height, width = first.shape[1:]
        raise InputError(
            f"SSIM needs 11×11 pixels inside the border, got {width}×{height}: the image is too "
            "small for it"
        )
    scores = [_mean_similarity(x, y) for x, y in zip(first, second, strict=True)]
    return float(np.mean(scores))


def _mean_similarity(x: np.ndarray, y: np.ndarray) -> float:
    mean_x, mean_y, squares, product = _windowed(np.stack([x, y, x * x + y * y, x * y]))
    means = mean_x * mean_y
    mean_squares = mean_x**2 + mean_y**2
    luminance = (2 * means + _C1) / (mean_squares + _C1)
    structure = (2 * (product - means) + _C2) / (squares - mean_squares + _C2)
    return float(np.mean(luminance * structure))


def _windowed(planes: np.ndarray) -> np.ndarray:
    """Weighted means over all windows, [C, H, W] to [C, H - 10, W - 10]."""
    count, height, width = planes.shape
    rows = np.empty((count, height - _SIDE + 1, width))
    filter_array(planes, _window_bands(height), rows=True, dtype=planes.dtype, out=rows)
    out = np.empty((count, height - _SIDE + 1, width - _SIDE + 1))
    filter_array(rows, _window_bands(width), rows=False, dtype=planes.dtype, out=out)
    return out


@lru_cache(maxsize=64)
def _window_bands(length: int) -> tuple[Band, ...]:
    taps = np.arange(_SIDE)
    weights = np.exp(-((taps - _SIDE // 2) ** 2) / (2 * _SIGMA**2))
    weights /= weights.sum()
    indices = np.arange(length - _SIDE + 1)[:, None] + taps
    return tuple(make_bands(indices, np.broadcast_to(weights, indices.shape)))

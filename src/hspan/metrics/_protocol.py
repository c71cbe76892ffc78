"""What both metrics do to a pair of images before they compare numbers.

Images are uint8 (quantise first: a score of unrounded values is a score of an image that nobody can
save). `border` pixels are removed on every side, as networks see less there; the benchmarks remove
`scale` pixels. Then channel "y" compares luma (BT.601 studio swing, unrounded), "rgb" all channels.

A one-channel image is replicated to three before it becomes luma (grey="replicate"), as the
programs that published scores do; grey="raw" compares its own values, as older MATLAB scripts did.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from hspan.errors import InputError, UsageError
from hspan.imaging import rgb_to_y

Channel = Literal["y", "rgb"]
Grey = Literal["replicate", "raw"]

PEAK = 255.0


def comparable(
    sr: np.ndarray, hr: np.ndarray, border: int, channel: Channel, grey: Grey
) -> tuple[np.ndarray, np.ndarray]:
    """Planes to compare, [C, H, W] float64 with peak 255.

    Raises:
        UsageError: unknown `channel` or `grey`, or a `border` that isn't a whole number from 0.
        InputError: not uint8 images of equal size, or nothing left inside the border.
    """
    if channel not in ("y", "rgb"):
        raise UsageError(f"channel must be 'y' or 'rgb', got {channel!r}")
    if grey not in ("replicate", "raw"):
        raise UsageError(f"grey must be 'replicate' or 'raw', got {grey!r}")
    if border != int(border) or border < 0:
        raise UsageError(f"border must be a whole number of pixels from 0, got {border}")
    first, second = _with_channels(sr, "sr"), _with_channels(hr, "hr")
    if first.shape != second.shape:
        raise InputError(f"sr and hr differ in shape: {np.shape(sr)} and {np.shape(hr)}")
    height, width, _ = first.shape
    if min(height, width) <= 2 * border:
        raise InputError(
            f"a border of {int(border)} leaves nothing of an image of {width}×{height} pixels"
        )
    return (
        _planes(first, int(border), channel, grey),
        _planes(second, int(border), channel, grey),
    )


def _with_channels(image: Any, name: str) -> np.ndarray:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"{name} must be a uint8 array, got {kind}: round and clip to 0..255")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise InputError(f"{name} must be height×width(×1) or height×width×3, got {image.shape}")
    return image


def _planes(image: np.ndarray, border: int, channel: Channel, grey: Grey) -> np.ndarray:
    inner = image[border : image.shape[0] - border, border : image.shape[1] - border]
    if channel == "y" and not (grey == "raw" and inner.shape[2] == 1):
        return rgb_to_y(np.broadcast_to(inner, (*inner.shape[:2], 3)))[None]
    return np.moveaxis(inner, 2, 0).astype(np.float64)

"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math

import numpy as np

from hspan.metrics._protocol import PEAK, Channel, Grey, comparable


def psnr(
    sr: np.ndarray, hr: np.ndarray, border: int, channel: Channel = "y", grey: Grey = "replicate"
) -> float:
    """PSNR, 10 log10(255² / mean squared error).

    Args:
        sr: uint8, H×W×3, H×W or H×W×1.
        hr: the same shape.
        border: pixels to leave out on every side; the benchmarks leave out `scale`.
        channel: "y" compares luma, "rgb" the three channels together.
        grey: with "y", whether a one-channel image is scored as luma of its replicated RGB image
            ("replicate") or on its own values ("raw").

    Returns:
        dB; infinite for equal images.

    Raises:
        UsageError: unknown `channel` or `grey`, or a negative `border`.
        InputError: not uint8, shapes that differ, or a border that leaves nothing.
    """
    first, second = comparable(sr, hr, border, channel, grey)
    error = float(np.mean((first - second) ** 2))
    return 10 * math.log10(PEAK**2 / error) if error else math.inf

"""Filters as MATLAB programs store them, as PyTorch has them.

MATLAB's imfilter and MatConvNet correlate, like PyTorch: nothing is flipped. Trailing dimensions
of length 1 don't exist in MATLAB.
"""

import math

from torch import Tensor


def filters(array: Tensor) -> Tensor:
    """MatConvNet's [h, w, in, out] as [out, in, h, w].

    Transposed convolutions, [h, w, out, in] there, come out as PyTorch has them too: [in, out, h,
    w].
    """
    while array.ndim < 4:
        array = array.unsqueeze(-1)
    return array.permute(3, 2, 0, 1).contiguous()


def column_filters(array: Tensor) -> Tensor:
    """[in, k², out], each filter read column by column, as [out, in, k, k]."""
    side = math.isqrt(array.shape[1])
    return array.unflatten(1, (side, side)).permute(3, 0, 2, 1).contiguous()

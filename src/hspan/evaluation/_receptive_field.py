"""How many LR pixels an SR pixel depends on, measured on the network itself.

One column of the image is NaN, which no arithmetic can get rid of: whatever becomes NaN depends on
it. That needs no gradient, misses no influence however faint, and shows where an influence is
global (attention over the image, pooling of channels over all positions).
"""

from __future__ import annotations

import torch
from torch import nn

_START = 64  # columns of the first trial; every next one has twice as many


@torch.no_grad()
def receptive_field(
    model: nn.Module, scale: int, *, period: int = 1, rows: int = 8, limit: int = 1024
) -> int | None:
    """Measure the width of the receptive field, in LR pixels.

    Args:
        model: a network in eval mode: [1, 3, H, W] → [1, 3, scale·H, scale·W].
        scale: its upscaling factor.
        period: columns after which the network repeats itself: 1 for convolutions at LR size or
            larger, the side of its windows or strides for others.
        rows: of the image; what a row depends on in its own direction isn't looked at.
        limit: columns above which a field counts as global.

    Returns:
        The largest number of columns that a column of SR pixels depends on; None is global.
    """
    width = _START
    while width <= limit:
        middle = width // 2 // period * period
        supports = [_support(model, rows, width, middle + i) for i in range(period)]
        if all(0 < first and last < scale * width - 1 for first, last in supports):
            return _widest(supports, scale, period)
        width *= 2
    return None


def _support(model: nn.Module, rows: int, width: int, column: int) -> tuple[int, int]:
    """First and last column of the SR image that depend on one column of the LR image."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, rows, width, generator=generator)
    image[..., column] = torch.nan
    touched = model(image).isnan().flatten(0, -2).any(dim=0).nonzero()
    return int(touched[0]), int(touched[-1])


def _widest(supports: list[tuple[int, int]], scale: int, period: int) -> int:
    """The most columns i whose supports hold one SR column.

    Column ``i + k·period`` reaches as far as column i does, ``k·scale·period`` further right.
    """
    step = scale * period
    widest = 0
    for column in range(step):
        last = max(i + period * ((column - a) // step) for i, (a, _) in enumerate(supports))
        first = min(i + period * -((b - column) // step) for i, (_, b) in enumerate(supports))
        widest = max(widest, last - first + 1)
    return widest

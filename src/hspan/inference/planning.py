"""Choosing tiles before anything runs: what fits into memory, and what isn't wasted work.

Memory: the peak of a forward pass over the largest window (``_meter``), the window itself, and the
float32 band in which a row of tiles is put together. ALLOCATOR covers what live tensors don't
show: blocks below 32 MiB that the C library keeps, copies inside operators (measured on whole
processes: 1.13 to 1.5 times the live tensors; tests/inference/test_planning.py).

Work: overlaps are computed twice, so larger tiles cost less per pixel, unless the network has
non-local attention, whose work per pixel grows with the tile. Larger tiles show the attention
more of the image and are closer to the whole-image result, so the largest that costs at most
PATIENCE times the cheapest is taken. Measured with hspan-light in bf16 on one core, 564×512 LR
pixels in one piece and in tiles of 512, 256, 192, 128, 96, 64: 35, 21, 11, 9.3, 7.8, 7.7 and 8.2 s;
predicted work in GFLOP: 3356, 2100, 1195, 1051, 941, 966 and 1106.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hspan.errors import UsageError
from hspan.hardware import DTYPES, Precision, available_memory
from hspan.inference._assembly import PIECE
from hspan.inference._meter import Cost, measure
from hspan.inference.tiling import Grid

LADDER = (2048, 1536, 1024, 768, 512, 384, 256, 192, 128, 96, 64, 48, 32, 16)
PATIENCE = 1.5
ALLOCATOR = 1.35
SHARE = 0.7  # of the free memory that a plan may count on: the rest belongs to other programs


@dataclass(frozen=True)
class Plan:
    """How an image will be cut, and what that is predicted to need."""

    tile: int  # largest share of a tile per axis in LR pixels; 0 is the whole image
    tiles: int
    window: tuple[int, int]  # height and width of the largest window, context included
    predicted_bytes: int  # peak beside weights, LR image and finished SR image
    predicted_work: float  # operations of the whole image, attention weighed (_meter)
    available_bytes: int
    why: str  # "asked for", "whole image", "memory" or "work": what decided


def plan(
    model: nn.Module | Cost,
    height: int,
    width: int,
    precision: Precision = "fp32",
    available_memory: int | None = None,
    *,
    scale: int,
    tile: int | str = "auto",
    overlap: int = 16,
    planes: int = 3,
) -> Plan:
    """Choose the tiles for one image.

    Args:
        model: a network [1, 3, h, w] → [1, 3, s·h, s·w]; or its cost, when that is known.
        height: of the LR image, in pixels.
        width: likewise.
        precision: in which the network will run.
        available_memory: bytes; None asks the device of the network.
        scale: of the network.
        tile: "auto"; or the share of a tile, which is then only predicted, never changed.
        overlap: as in ``Grid``.
        planes: channels of the result, alpha included.

    Raises:
        UsageError: ``tile`` is neither "auto" nor a number from 0.
    """
    cost = model if isinstance(model, Cost) else network_cost(model, precision)
    available = _available(cost.device) if available_memory is None else available_memory
    if tile != "auto":
        if not isinstance(tile, int):
            raise UsageError(f"tile must be auto, 0 or a number of pixels, got {tile!r}")
        return _predict(
            cost, Grid(height, width, tile, overlap), scale, planes, available, "asked for"
        )
    sizes = (0, *(size for size in LADDER if size < max(height, width)))
    options = [
        _predict(cost, Grid(height, width, size, overlap), scale, planes, available, "work")
        for size in sizes
    ]
    budget = int(available * SHARE)
    fitting = [p for p in options if p.predicted_bytes <= budget]
    if not fitting:  # the smallest tile is the best that can be tried
        return _because(options[-1], "memory")
    cheapest = min(p.predicted_work for p in fitting)
    chosen = next(p for p in fitting if p.predicted_work <= PATIENCE * cheapest)
    if chosen.tile == 0:
        return _because(chosen, "whole image")
    return _because(chosen, "memory") if chosen is fitting[0] else chosen


def network_cost(model: nn.Module, precision: Precision = "fp32") -> Cost:
    """Measure what a network costs (``_meter.measure``), where its weights are.

    Args:
        model: [1, 3, h, w] → [1, 3, s·h, s·w], in eval mode.
        precision: in which it will run.
    """
    weight = next(model.parameters(), torch.empty(0))
    return measure(in_precision(model, weight.device, precision), weight.device)


def in_precision(
    model: nn.Module, device: torch.device, precision: Precision
) -> Callable[[Tensor], Tensor]:
    """The network as it is called here: channels last, in automatic mixed precision."""

    def run(image: Tensor) -> Tensor:
        mixed = precision != "fp32"
        image = image.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, DTYPES[precision] if mixed else None, enabled=mixed):
            return model(image)

    return run


def _available(device: str) -> int:
    return available_memory(torch.device(device))


def _because(chosen: Plan, why: str) -> Plan:
    return dataclasses.replace(chosen, why=why)


def _predict(cost: Cost, grid: Grid, scale: int, planes: int, available: int, why: str) -> Plan:
    window = grid.largest
    pixels = window[0] * window[1]
    tiled = len(grid) > 1
    # float32 planes: a window's result, weighed and cropped; the band of all tiles of a row; and
    # the few rows that are being rounded.
    band = max(span.last - span.first for span in grid.rows.spans) * grid.width
    rounding = min(PIECE, grid.height * scale) * grid.width / scale
    results = 4 * planes * scale**2 * (3 * pixels + band + 3 * rounding)
    return Plan(
        tile=grid.tile if tiled else 0,
        tiles=len(grid),
        window=window,
        predicted_bytes=int(ALLOCATOR * cost.peak(pixels)) + 4 * 3 * pixels + int(results),
        predicted_work=sum(n * cost.work(h * w) for (h, w), n in grid.windows.items()),
        available_bytes=available,
        why=why,
    )

"""Choosing tiles before anything runs: what fits into memory, and what isn't wasted time.

Memory: the peak of a forward pass over the largest window (``_meter``) or what is done with its
result, whichever is more; the window itself, and the float32 band in which a row of tiles is put
together. ALLOCATOR covers what live tensors don't
show: blocks below 32 MiB that the C library keeps, or had kept before (measured on whole processes:
0.95 to 1.4 times the live tensors; tests/inference/test_planning.py).

Time: overlaps are computed twice, so larger tiles cost less per pixel, unless the network has
non-local attention, whose time per pixel grows with the tile. In return attention sees more of the
image, and all of it in one piece. So an image stays whole where that fits into memory and takes at
most PATIENCE times the fastest way, or INSTANT; if not, the largest tile of which this is true is
taken. Times are those of a nominal machine (``_speed``): the same image is cut the same way every
time. benchmarks/whole_image.py compares predictions with what happens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hspan.errors import UsageError
from hspan.hardware import DTYPES, Precision, available_memory
from hspan.inference._assembly import PIECE
from hspan.inference._meter import Cost, measure
from hspan.inference._speed import Speed, speed_of
from hspan.inference.tiling import Grid

LADDER = (2048, 1536, 1024, 768, 512, 384, 256, 192, 128, 96, 64, 48, 32, 16)
PATIENCE = 2.0
RESULTS = 8.0  # planes of a window's result and its copies, at most
INSTANT = 3.0  # seconds that nobody minds
ALLOCATOR = 1.2
SHARE = 0.7  # of the free memory that a plan may count on: the rest belongs to other programs

Why = Literal["asked for", "whole image", "memory", "time"]


@dataclass(frozen=True)
class Plan:
    """How an image will be cut, what that is predicted to need, and why."""

    tile: int  # largest share of a tile per axis in LR pixels; 0 is the whole image
    tiles: int
    window: tuple[int, int]  # height and width of the largest window, context included
    predicted_bytes: int  # peak beside weights, LR image and finished SR image
    predicted_seconds: float  # of the network, for the whole image
    available_bytes: int
    why: Why  # what decided
    because: str = ""  # the same as a clause with numbers; empty for whole images

    @property
    def summary(self) -> str:
        """The decision and its reason: "in one piece", "in 6 tiles of 256, because …"."""
        return describe(self.tile, self.tiles, self.because)


def describe(tile: int, tiles: int, because: str) -> str:
    """Say how an image is cut, as in "in 6 tiles of 256, because …"."""
    cut = "in one piece" if tiles == 1 else f"in {tiles} tiles of {tile}"
    if tiles > 1 and not tile:  # pages or bands
        cut = f"in {tiles} parts, each in one piece"
    return f"{cut}, {because}" if because else cut


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
    passes: int = 1,
    speed: Speed | None = None,
    budget: int | None = None,
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
        passes: how often the network sees every window, one time after the other.
        speed: of the machine; None is what is expected of the network's device.
        budget: bytes that may be used; None is SHARE of ``available_memory``.

    Raises:
        UsageError: ``tile`` is neither "auto" nor a number from 0.
    """
    cost = model if isinstance(model, Cost) else network_cost(model, precision)
    available = _available(cost.device) if available_memory is None else available_memory
    speed = speed or speed_of(cost.device, precision)

    def predict(size: int) -> Plan:
        grid = Grid(height, width, size, overlap)
        windows = grid.windows.items()
        return Plan(
            tile=grid.tile if len(grid) > 1 else 0,
            tiles=len(grid),
            window=grid.largest,
            predicted_bytes=_peak(cost, grid, scale, planes),
            predicted_seconds=passes * sum(n * cost.seconds(h * w, speed) for (h, w), n in windows),
            available_bytes=available,
            why="asked for",
        )

    if tile != "auto":
        if not isinstance(tile, int):
            raise UsageError(f"tile must be auto, 0 or a number of pixels, got {tile!r}")
        asked = predict(tile)
        return dataclasses.replace(asked, because="as asked")
    shared = int(available * SHARE)
    options = [predict(size) for size in (0, *(n for n in LADDER if n < max(height, width)))]
    return _choose(options, shared if budget is None else min(budget, shared))


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


def _choose(options: list[Plan], budget: int) -> Plan:
    """The largest tile that fits into memory and isn't a waste of time; the largest come first."""
    whole = options[0]
    fitting = [p for p in options if p.predicted_bytes <= budget]
    fitting = fitting or options[-1:]  # the smallest tile is the best that can be tried
    fastest = min(p.predicted_seconds for p in fitting)
    allowed = max(PATIENCE * fastest, INSTANT)
    chosen = next(p for p in fitting if p.predicted_seconds <= allowed)
    if chosen is whole:
        return dataclasses.replace(chosen, why="whole image")
    larger = fitting[0]
    if chosen is larger:
        needs, may = size_text(whole.predicted_bytes), size_text(budget)
        because = f"because the whole image needs about {needs} of memory and {may} may be used"
        return dataclasses.replace(chosen, why="memory", because=because)
    name = "the whole image" if larger is whole else f"tiles of {larger.tile}"
    slow, fast = duration_text(larger.predicted_seconds), duration_text(chosen.predicted_seconds)
    because = f"because {name} would take about {slow} instead of {fast}"
    return dataclasses.replace(chosen, why="time", because=because)


def size_text(count: int) -> str:
    """A number of bytes in words: 12 MB, 3.4 GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def duration_text(seconds: float) -> str:
    """A time in words: 8.2 s, 75 s, 12 min, 3.4 h."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _peak(cost: Cost, grid: Grid, scale: int, planes: int) -> int:
    pixels = grid.largest[0] * grid.largest[1]
    plane = 4 * scale**2  # bytes of an SR plane in float32 per LR pixel
    # All along: the window; the band of all tiles of a row, and its few rows that are rounded.
    band = max(span.last - span.first for span in grid.rows.spans) * grid.width
    rounding = min(PIECE, grid.height * scale) * grid.width / scale
    beside = 4 * 3 * pixels + plane * planes * (band + 3 * rounding)
    # While the network looks at alpha, its result for the colours waits.
    waiting = plane * (planes - 1) * pixels if planes in (2, 4) else 0
    network = ALLOCATOR * cost.peak(pixels) + waiting
    # Afterwards its result is checked for values that aren't finite, joined to alpha, and weighed.
    return int(beside + max(network, plane * RESULTS * pixels))

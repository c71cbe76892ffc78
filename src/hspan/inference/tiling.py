"""Cutting an image into overlapping windows whose results blend without seams.

Along each axis the image is shared out among tiles as evenly as possible, so no sliver is left
over. At an inner boundary the neighbours' results cross-fade over ``blend`` pixels, and every
window reaches ``overlap`` pixels beyond what it contributes: each contributed pixel has seen at
least that much of its real surroundings. So a network that looks no further than ``overlap``
pixels gives the same image in tiles as in one piece.

With the rising ramp of boundary i written r_i (r_0 = 1, r_n = 0), tile i weighs r_i − r_{i+1}:
the weights of all tiles sum to 1 whatever the tile, overlap and image size.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hspan.errors import UsageError


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in LR pixels."""

    start: int  # of the window that the network sees
    stop: int
    first: int  # of the part that contributes to the result
    last: int  # one past it

    @property
    def size(self) -> int:
        """Pixels of the window."""
        return self.stop - self.start


@dataclass(frozen=True)
class Axis:
    """An axis of ``length`` LR pixels, shared out among tiles of at most ``tile`` (0: one tile)."""

    length: int
    tile: int
    overlap: int

    @property
    def blend(self) -> int:
        """Pixels over which neighbours cross-fade; even, so that ramps centre on boundaries."""
        return self.overlap // 4 * 2

    @cached_property
    def boundaries(self) -> tuple[int, ...]:
        """Where tiles meet, from 0 to ``length``."""
        count = math.ceil(self.length / self.tile) if self.tile else 1
        return tuple(i * self.length // count for i in range(count + 1))

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """All tiles, from the first pixel to the last."""
        half, cuts = self.blend // 2, self.boundaries
        spans: list[Span] = []
        for low, high in itertools.pairwise(cuts):
            first = 0 if low == 0 else max(0, low - half)
            last = self.length if high == self.length else min(self.length, high + half)
            start, stop = max(0, first - self.overlap), min(self.length, last + self.overlap)
            spans.append(Span(start, stop, first, last))
        return tuple(spans)

    def weights(self, index: int, scale: int) -> Tensor:
        """Weights of tile ``index`` over the SR pixels that it contributes, [s·(last − first)]."""
        span, cuts = self.spans[index], self.boundaries
        centres = (torch.arange(span.first * scale, span.last * scale) + 0.5) / scale
        rising = self._ramp(centres, cuts[index]) if index > 0 else torch.ones_like(centres)
        falling = self._ramp(centres, cuts[index + 1]) if index + 2 < len(cuts) else 0.0
        return rising - falling

    def _ramp(self, position: Tensor, boundary: int) -> Tensor:
        """Raised cosine from 0 to 1 around a boundary; a step where nothing is to blend."""
        if not self.blend:
            return (position > boundary).float()
        phase = ((position - boundary) / self.blend + 0.5).clamp(0, 1)
        return 0.5 - 0.5 * torch.cos(math.pi * phase)


@dataclass(frozen=True)
class Grid:
    """All tiles of an image.

    Args:
        height: of the LR image, in pixels.
        width: likewise.
        tile: the largest share of a tile per axis in LR pixels, context not counted; 0 is the
            whole image.
        overlap: LR pixels of context around what a tile contributes.

    Raises:
        UsageError: tile or overlap is negative.
    """

    height: int
    width: int
    tile: int
    overlap: int

    def __post_init__(self) -> None:
        if self.tile < 0 or self.overlap < 0:
            raise UsageError(
                f"tile and overlap are numbers of pixels from 0, got {self.tile} and {self.overlap}"
            )

    @cached_property
    def rows(self) -> Axis:
        """Tiles from top to bottom."""
        return Axis(self.height, self.tile, self.overlap)

    @cached_property
    def columns(self) -> Axis:
        """Tiles from left to right."""
        return Axis(self.width, self.tile, self.overlap)

    def __len__(self) -> int:
        return len(self.rows.spans) * len(self.columns.spans)

    @property
    def windows(self) -> Counter[tuple[int, int]]:
        """How many windows there are of each height and width."""
        rows = Counter(span.size for span in self.rows.spans)
        columns = Counter(span.size for span in self.columns.spans)
        return Counter({(h, w): rows[h] * columns[w] for h in rows for w in columns})

    @property
    def largest(self) -> tuple[int, int]:
        """Height and width that no window exceeds."""
        return max(s.size for s in self.rows.spans), max(s.size for s in self.columns.spans)

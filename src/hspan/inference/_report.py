"""How images were upscaled, for whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hspan.hardware import Precision
from hspan.inference.planning import describe


@dataclass(frozen=True)
class Report:
    """How an image was upscaled. Sizes are width, height in pixels, as image viewers say them."""

    lr_size: tuple[int, int]
    sr_size: tuple[int, int]
    scale: int
    model: str
    precision: Precision
    tile: int  # largest share of a tile per axis in LR pixels; 0: in one piece
    tiles: int
    because: str  # why these tiles, as a clause; empty for whole images
    repeated_in_fp32: int  # windows that weren't finite in the precision above
    seconds: float
    resumed: int = 0  # tiles that an interrupted run had finished

    @property
    def summary(self) -> str:
        """How the image was cut, and why: "in one piece", "in 6 tiles of 256, because …"."""
        return describe(self.tile, self.tiles, self.because)


def combined(reports: Sequence[Report]) -> Report:
    """One report for the parts of a file."""
    return replace(
        reports[0],
        tiles=sum(r.tiles for r in reports),
        repeated_in_fp32=sum(r.repeated_in_fp32 for r in reports),
        seconds=sum(r.seconds for r in reports),
        resumed=sum(r.resumed for r in reports),
    )

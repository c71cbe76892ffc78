"""How far a network is within a tile: its longest row of blocks, counted as they finish."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from torch import nn

Report = Callable[[float], None]
"""Called with the finished share of all work, from 0 to 1."""


class Progress:
    """Puts finished tiles and finished blocks of the next one together.

    Args:
        report: called when the share has grown.
        blocks: calls of a block that a tile takes.
        tiles: how many there will probably be; ``tile`` knows better.
    """

    def __init__(self, report: Report, blocks: int, tiles: int = 1) -> None:
        self._report = report
        self._blocks = blocks
        self._done, self._tiles, self._within = 0, tiles, 0
        self._last = 0.0

    def tile(self, done: int, tiles: int) -> None:
        """A tile is finished."""
        self._done, self._tiles, self._within = done, tiles, 0
        self._tell()

    def block(self, *_: object) -> None:
        """A block is finished; more of them than were expected count no further."""
        self._within = min(self._within + 1, self._blocks)
        self._tell()

    def _tell(self) -> None:
        share = (self._done + self._within / max(self._blocks, 1)) / self._tiles
        if share > self._last:
            self._last = min(share, 1.0)
            self._report(self._last)


@contextmanager
def watched(
    model: nn.Module, report: Report | None, *, passes: int = 1, tiles: int = 1
) -> Generator[Progress | None]:
    """Report a network's progress while it upscales; None where nobody listens.

    Args:
        model: the network.
        report: see ``Report``.
        passes: of the network over each tile.
        tiles: as far as one can tell beforehand.
    """
    if report is None:
        yield None
        return
    rows = [module for module in model.modules() if isinstance(module, nn.Sequential)]
    row = max(rows, key=len, default=nn.Sequential())
    progress = Progress(report, len(row) * passes, tiles)
    hooks = [block.register_forward_hook(progress.block) for block in row]
    try:
        yield progress
    finally:
        for hook in hooks:
            hook.remove()

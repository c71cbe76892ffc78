"""From an LR array to an SR array, a band of tiles at a time.

Pixels are read window by window and finished rows are written as soon as no further tile touches
them, so beside source and result only one band of tiles is held in float32, whatever the height.
Source and result may be files mapped into memory: of those no more than a band is held either.
Colours are multiplied by alpha before the network and divided by it after, so that invisible
pixels don't bleed into visible ones.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hspan.errors import InputError
from hspan.imaging import flush, release, reserve
from hspan.inference._checkpoint import Checkpoint
from hspan.inference.tiling import Grid, Span

Progress = Callable[[int, int], None]
"""Called with the number of finished tiles and of all tiles."""

PIECE = 64  # rows that are rounded and stored at once


@dataclass(frozen=True)
class Planes:
    """An image as it is stored: uint8, uint16 or floating (nominally [0, 1])."""

    pixels: np.ndarray  # [H, W, C], C of 1 or 3
    alpha: np.ndarray | None = None  # [H, W], dtype of pixels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def channels(self) -> int:
        """Channels, alpha included."""
        return self.pixels.shape[2] + (self.alpha is not None)


def upscale_planes(
    network: Callable[[Tensor], Tensor],
    source: Planes,
    scale: int,
    grid: Grid,
    *,
    in_memory: int,
    folder: Path | None = None,
    result: Planes | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Planes:
    """Run a network over all tiles of an image.

    Args:
        network: [K, h, w] → [K, s·h, s·w], float32, K = ``source.channels``.
        source: the LR image.
        scale: s.
        grid: the tiles.
        in_memory: results above so many bytes are kept in a temporary file.
        folder: where that file goes; None is the system's folder for temporary files.
        result: where the SR image goes, instead of a new array.
        checkpoint: what is finished already, and where to note what will be; needs ``result``.
        progress: see ``Progress``.

    Returns:
        The SR image in the dtype of the source: integers rounded half up and clipped, floating
        values as the network gives them.

    Raises:
        InputError: floating pixels that aren't finite, or no room for the result.
    """
    opaque = source.alpha is not None and _opaque(source.alpha)
    seen = Planes(source.pixels) if opaque else source
    height, width = (side * scale for side in source.size)
    result = result or _new_planes(source, height, width, in_memory, folder)
    spans = grid.rows.spans
    rows = max(span.last - span.first for span in spans)
    band = _Band(seen.channels, rows * scale, width)
    begin = checkpoint.rows if checkpoint else 0
    if checkpoint and 0 < begin < len(spans):
        band.restore(checkpoint.carry(begin), spans[begin].first * scale)
    done = begin * len(grid.columns.spans)
    if done and progress is not None:
        progress(done, len(grid))
    for i, row in list(enumerate(spans))[begin:]:
        for j, part in _parts(network, seen, scale, grid, i, checkpoint):
            band.add(part, row.first * scale, grid.columns.spans[j].first * scale)
            done += 1
            if progress is not None:
                progress(done, len(grid))
            del part  # or it would stay while the network is at the next one
        finished = spans[i + 1].first * scale if i + 1 < len(spans) else height
        for piece, first in band.pieces(finished):
            _write(piece, result, first, has_alpha=seen.alpha is not None)
            release(result.pixels, result.alpha)
        band.move_on(finished)
        if checkpoint:
            carry = band.rest(row.last * scale)
            checkpoint.finish_row(i, carry, lambda: flush(result.pixels, result.alpha))
    return result


def _new_planes(
    source: Planes, height: int, width: int, in_memory: int, folder: Path | None
) -> Planes:
    dtype, colours = source.pixels.dtype, source.pixels.shape[2]
    pixels = _allocate((height, width, colours), dtype, in_memory, folder)
    if source.alpha is None:
        return Planes(pixels)
    return Planes(pixels, _allocate((height, width), dtype, in_memory, folder))


def _parts(
    network: Callable[[Tensor], Tensor],
    source: Planes,
    scale: int,
    grid: Grid,
    i: int,
    checkpoint: Checkpoint | None,
) -> Iterator[tuple[int, Tensor]]:
    """What each tile of a row adds to the image: kept results first, then computed ones."""
    row, columns = grid.rows.spans[i], grid.columns.spans
    high = (row.last - row.first) * scale
    shapes = [(source.channels, high, (c.last - c.first) * scale) for c in columns]
    done = 0
    for part in checkpoint.tiles(i, shapes) if checkpoint else ():
        yield done, part
        done += 1
        del part
    weights = grid.rows.weights(i, scale)[:, None]
    for j, column in list(enumerate(columns))[done:]:
        begin = time.perf_counter()
        window = _read(source, row, column)
        release(source.pixels, source.alpha)
        part = _cropped(network(window), row, column, scale)
        if len(grid) > 1:
            part = part * (weights * grid.columns.weights(j, scale))
        if checkpoint:
            checkpoint.keep_tile(i, j, part, time.perf_counter() - begin)
        yield j, part
        del window, part


def _cropped(sr: Tensor, row: Span, column: Span, scale: int) -> Tensor:
    """Of a window's result, what the tile contributes."""
    top, left = (row.first - row.start) * scale, (column.first - column.start) * scale
    high, wide = (row.last - row.first) * scale, (column.last - column.first) * scale
    return sr[:, top : top + high, left : left + wide]


class _Band:
    """The rows that tiles still add to, [K, rows, s·W] float32, in one buffer that moves down."""

    def __init__(self, channels: int, rows: int, width: int) -> None:
        self._first = 0  # row of the image that is the buffer's first
        self._rows = torch.zeros(channels, rows, width)

    def add(self, part: Tensor, top: int, left: int) -> None:
        """Add [K, h, w] at a row and column of the image."""
        top -= self._first
        self._rows[:, top : top + part.shape[1], left : left + part.shape[2]] += part

    def rest(self, end: int) -> Tensor:
        """The rows that hold something, up to ``end``."""
        return self._rows[:, : max(0, end - self._first)]

    def restore(self, rest: np.ndarray, first: int) -> None:
        """Go back to where ``rest`` was taken, with ``first`` the buffer's first row."""
        channels, _, width = self._rows.shape
        held = torch.from_numpy(rest).view(channels, -1, width)
        self._rows[:, : held.shape[1]] = held
        self._first = first

    def pieces(self, end: int) -> Iterator[tuple[Tensor, int]]:
        """The rows before ``end``, a few at a time, with the first row of each piece."""
        for start in range(0, end - self._first, PIECE):
            stop = min(start + PIECE, end - self._first)
            yield self._rows[:, start:stop], self._first + start

    def move_on(self, end: int) -> None:
        """Forget the rows before ``end``."""
        count = end - self._first
        left = self._rows.shape[1] - count
        self._rows[:, :left] = self._rows[:, count:].clone()
        self._rows[:, left:] = 0
        self._first = end


def _read(source: Planes, row: Span, column: Span) -> Tensor:
    """A window as float32 [K, h, w], colours multiplied by alpha."""
    rows, columns = slice(row.start, row.stop), slice(column.start, column.stop)
    ceiling = _ceiling(source.pixels.dtype)
    pixels = np.array(source.pixels[rows, columns], dtype=np.float32)
    window = torch.from_numpy(pixels).permute(2, 0, 1) / ceiling
    if source.alpha is not None:
        alpha = torch.from_numpy(np.array(source.alpha[rows, columns], dtype=np.float32)) / ceiling
        window = torch.cat([window * alpha, alpha[None]])
    if not bool(window.isfinite().all()):
        raise InputError("the image holds NaN or infinite values; replace them first")
    return window


def _write(rows: Tensor, result: Planes, start: int, has_alpha: bool) -> None:
    """Store finished rows [K, h, s·W] from row ``start`` on."""
    stop = start + rows.shape[1]
    ceiling = _ceiling(result.pixels.dtype)
    integer = result.pixels.dtype.kind == "u"
    if has_alpha and result.alpha is not None:
        alpha = rows[-1].clamp(0, 1)
        # Below half a step alpha is stored as zero, and its colour is noise that nobody sees.
        visible = alpha >= 0.5 / (ceiling if integer else 65535)
        rows = torch.where(visible, rows[:-1] / alpha, 0.0)
        if not integer:
            rows = rows.clamp(0, 1)
        result.alpha[start:stop] = _stored(alpha, ceiling, integer)
    elif result.alpha is not None:
        result.alpha[start:stop] = ceiling
    result.pixels[start:stop] = _stored(rows.permute(1, 2, 0), ceiling, integer)


def _stored(values: Tensor, ceiling: float, integer: bool) -> np.ndarray:
    if integer:
        values = values.clamp(0, 1).mul(ceiling).add_(0.5).floor_()
    return values.numpy()


def _ceiling(dtype: np.dtype) -> float:
    """What stands for 1.0."""
    return float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0


def _opaque(alpha: np.ndarray) -> bool:
    ceiling = _ceiling(alpha.dtype)
    for start in range(0, len(alpha), PIECE):
        if alpha[start : start + PIECE].min() < ceiling:
            return False
        release(alpha)
    return True


def _allocate(
    shape: tuple[int, ...], dtype: np.dtype, in_memory: int, folder: Path | None
) -> np.ndarray:
    """An array, in an unnamed temporary file if it is large: nothing can be left behind."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size <= in_memory:
        return np.zeros(shape, dtype)
    place = folder or Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            # Reserved now: a disk that fills up later would end the process without a word.
            reserve(file, size)
            return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    except OSError as error:
        raise InputError(
            f"no room for {size / 1e9:.1f} GB of result in {place}: {error.strerror or error}"
        ) from error

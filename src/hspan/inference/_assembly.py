"""From an LR array to an SR array, a band of tiles at a time.

Pixels are read window by window and finished rows are written as soon as no further tile touches
them, so beside source and result only one band of tiles is held in float32, whatever the height.
Colours are multiplied by alpha before the network and divided by it after, so that invisible
pixels don't bleed into visible ones.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hspan.errors import InputError
from hspan.inference.tiling import Grid

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
    result = Planes(
        _allocate((height, width, source.pixels.shape[2]), source.pixels.dtype, in_memory, folder),
        None
        if source.alpha is None
        else _allocate((height, width), source.pixels.dtype, in_memory, folder),
    )
    if opaque and result.alpha is not None:
        result.alpha[...] = _ceiling(source.pixels.dtype)
    rows = max(span.last - span.first for span in grid.rows.spans)
    band = _Band(seen.channels, rows * scale, width)
    done = 0
    for i, row in enumerate(grid.rows.spans):
        weights = grid.rows.weights(i, scale)[:, None]
        for j, column in enumerate(grid.columns.spans):
            window = _read(seen, slice(row.start, row.stop), slice(column.start, column.stop))
            sr = network(window)
            top, left = (row.first - row.start) * scale, (column.first - column.start) * scale
            high, wide = (row.last - row.first) * scale, (column.last - column.first) * scale
            part = sr[:, top : top + high, left : left + wide]
            if len(grid) > 1:
                part = part * (weights * grid.columns.weights(j, scale))
            band.add(part, row.first * scale, column.first * scale)
            done += 1
            if progress is not None:
                progress(done, len(grid))
        after = grid.rows.spans[i + 1 :]
        finished = after[0].first * scale if after else height
        for piece, first in band.pieces(finished):
            _write(piece, result, first, has_alpha=seen.alpha is not None)
        band.move_on(finished)
    return result


class _Band:
    """The rows that tiles still add to, [K, rows, s·W] float32, in one buffer that moves down."""

    def __init__(self, channels: int, rows: int, width: int) -> None:
        self._first = 0  # row of the image that is the buffer's first
        self._rows = torch.zeros(channels, rows, width)

    def add(self, part: Tensor, top: int, left: int) -> None:
        """Add [K, h, w] at a row and column of the image."""
        top -= self._first
        self._rows[:, top : top + part.shape[1], left : left + part.shape[2]] += part

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


def _read(source: Planes, rows: slice, columns: slice) -> Tensor:
    """A window as float32 [K, h, w], colours multiplied by alpha."""
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
    result.pixels[start:stop] = _stored(rows.permute(1, 2, 0), ceiling, integer)


def _stored(values: Tensor, ceiling: float, integer: bool) -> np.ndarray:
    if integer:
        values = values.clamp(0, 1).mul(ceiling).add_(0.5).floor_()
    return values.numpy()


def _ceiling(dtype: np.dtype) -> float:
    """What stands for 1.0."""
    return float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0


def _opaque(alpha: np.ndarray) -> bool:
    return bool(alpha.min() >= _ceiling(alpha.dtype))


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
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype=dtype, mode="w+", shape=shape)
    except OSError as error:
        raise InputError(
            f"no room for {size / 1e9:.1f} GB of result in {place}: {error.strerror or error}"
        ) from error

"""Where an image stands while it is upscaled, on the disk, so that it goes on after a kill.

A folder holds, beside the pixels themselves, per image:

    state.json      tile size and finished rows of tiles
    carry-I.raw     the rows that tiles of row I still add to, as row I - 1 left them
    tiles-I.raw     the results of row I's tiles so far, where they are worth keeping

``state.json`` is replaced in one step after everything that it speaks of is on the disk. Tiles are
float32 with a checksum each: one that was being written is computed again. What is read back are
the very numbers that were computed, in the same order, so that a result is the same to the bit
whether it was interrupted or not.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

KEEP_SECONDS = 0.5  # tiles that took less are sooner computed again than kept


class Checkpoint:
    """The state of one image in a folder of its own, which must exist.

    Args:
        folder: where.
        keep_seconds: what a tile must have taken for its result to be kept.
    """

    def __init__(self, folder: Path, *, keep_seconds: float = KEEP_SECONDS) -> None:
        self.folder = folder
        self.keep_seconds = keep_seconds
        self._kept = 0  # tiles of the present row in its file

    def begin(self, tile: int) -> int:
        """The tile size to go on with: that of the interrupted run, or the one given."""
        state = self._state()
        if state is None:
            self._save(tile, 0)
            return tile
        return int(state["tile"])

    def restart(self, tile: int) -> None:
        """Forget all that is finished and begin with another tile size."""
        for path in (*self.folder.glob("carry-*.raw"), *self.folder.glob("tiles-*.raw")):
            path.unlink()
        self._save(tile, 0)

    @property
    def rows(self) -> int:
        """Finished rows of tiles."""
        state = self._state()
        return 0 if state is None else int(state["rows"])

    def carry(self, row: int) -> np.ndarray:
        """What the row before left for this one, flat."""
        return np.fromfile(self._carry(row), np.float32)

    def finish_row(self, row: int, carry: Tensor, flush: Callable[[], None]) -> None:
        """A row is done: its results are in the image and the rest is ``carry``.

        Args:
            row: its number.
            carry: of any shape.
            flush: puts the image on the disk.
        """
        flush()
        path = self._carry(row + 1)
        with path.open("wb") as file:
            carry.contiguous().numpy().tofile(file)
            file.flush()
            os.fsync(file.fileno())
        state = self._state() or {}
        self._save(int(state.get("tile", 0)), row + 1)
        for old in (self._carry(row), self._tiles(row)):
            old.unlink(missing_ok=True)
        self._kept = 0

    def tiles(self, row: int, shapes: list[tuple[int, ...]]) -> Iterator[Tensor]:
        """The results that are kept of a row's first tiles, one at a time.

        Args:
            row: its number.
            shapes: of all its tiles' results.
        """
        self._kept = 0
        with suppress(FileNotFoundError), self._tiles(row).open("r+b") as file:
            end = 0
            for shape in shapes:
                data = bytearray(4 * int(np.prod(shape)))
                whole = file.readinto(data) == len(data)
                if not whole or file.read(4) != zlib.crc32(data).to_bytes(4, "little"):
                    break
                end = file.tell()
                self._kept += 1
                yield torch.frombuffer(data, dtype=torch.float32).view(shape)
                del data
            file.truncate(end)

    def keep_tile(self, row: int, index: int, part: Tensor, seconds: float) -> None:
        """Keep a tile's result, if it took long and all before it in its row are kept."""
        if index != self._kept or seconds < self.keep_seconds:
            return
        data = part.contiguous().numpy().tobytes()
        with self._tiles(row).open("ab") as file:
            file.write(data + zlib.crc32(data).to_bytes(4, "little"))
        self._kept += 1

    def _state(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / "state.json").read_text())
        except FileNotFoundError:
            return None

    def _save(self, tile: int, rows: int) -> None:
        save_json(self.folder / "state.json", {"tile": tile, "rows": rows})

    def _carry(self, row: int) -> Path:
        return self.folder / f"carry-{row}.raw"

    def _tiles(self, row: int) -> Path:
        return self.folder / f"tiles-{row}.raw"


def save_json(path: Path, value: dict[str, Any]) -> None:
    """Write a small file so that it is there either as it was or as it is to be."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)

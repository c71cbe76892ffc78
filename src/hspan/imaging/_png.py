"""What libvips doesn't tell about a PNG: whether it moves, and whether it has a resolution."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from typing import IO

_METRES_PER_INCH = 0.0254


@dataclass(frozen=True)
class PngHeader:
    """Attributes: frames, 1 unless animated; dpi, if given; where its chunk (pHYs) begins."""

    frames: int = 1
    dpi: tuple[float, float] | None = None
    dpi_at: int | None = None


def header(file: IO[bytes]) -> PngHeader:
    """Read the chunks before the pixels; the file's position is kept."""
    before = file.tell()
    frames, dpi, dpi_at = 1, None, None
    position = 8
    while True:
        file.seek(position)
        head = file.read(8 + 9)  # length, type, and as much of the content as is needed
        if len(head) < 12 or head[4:8] in (b"IDAT", b"IEND"):
            break
        length, kind = struct.unpack(">I4s", head[:8])
        if kind == b"acTL":
            frames = int.from_bytes(head[8:12], "big")
        elif kind == b"pHYs" and len(head) == 17:
            x, y, unit = struct.unpack(">IIB", head[8:])
            dpi_at = position
            if unit == 1 and x and y:
                dpi = (x * _METRES_PER_INCH, y * _METRES_PER_INCH)
        position += 12 + length
    file.seek(before, os.SEEK_SET)
    return PngHeader(frames, dpi, dpi_at)


def forget_dpi(file: IO[bytes]) -> None:
    """Make the resolution of a PNG, open for reading and writing, unknown: 1:1 without a unit."""
    at = header(file).dpi_at
    if at is not None:
        chunk = struct.pack(">4sIIB", b"pHYs", 1, 1, 0)
        file.seek(at + 4)
        file.write(chunk + struct.pack(">I", zlib.crc32(chunk)))

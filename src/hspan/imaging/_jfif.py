"""The JFIF header of a JPEG: where a resolution stands if there is no EXIF. libvips writes none."""

from __future__ import annotations

import struct
from typing import IO

_START = b"\xff\xd8"
_PIECE = 1 << 20


def add_resolution(file: IO[bytes], dpi: tuple[float, float]) -> None:
    """Put a header with a resolution into a JPEG that has none, open for reading and writing."""
    x, y = (min(max(round(value), 1), 0xFFFF) for value in dpi)
    # Length, name, version 1.2, pixels per inch, no thumbnail.
    header = b"\xff\xe0" + struct.pack(">H5sBBBHHBB", 16, b"JFIF\0", 1, 2, 1, x, y, 0, 0)
    position = file.seek(0, 2)
    while position > len(_START):
        size = min(_PIECE, position - len(_START))
        position -= size
        file.seek(position)
        piece = file.read(size)
        file.seek(position + len(header))
        file.write(piece)
    file.seek(len(_START))
    file.write(header)

"""EXIF, byte by byte: a small TIFF whose directories (IFD) list tags.

libvips carries EXIF through JPEG, PNG, WebP and AVIF; TIFF files keep the same tags in their own
directory, which it leaves alone, so those are moved here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from mmap import mmap

PREFIX = b"Exif\0\0"

_ORIENTATION = 0x0112
_SUB_DIRECTORIES = (0x8769, 0x8825, 0xA005)  # Exif, GPS, interoperability
# Tags of a TIFF's own directory that describe the picture rather than the file's layout.
_DESCRIPTIVE = frozenset(
    {
        *(0x010E, 0x010F, 0x0110, 0x0131, 0x0132),  # description, make, model, software, date
        *(0x013B, 0x013C, 0x8298),  # artist, host computer, copyright
        *_SUB_DIRECTORIES,
    }
)
# Bytes of an element per type, and of the units in which byte order matters.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_UNITS = {**_SIZES, 5: 4, 10: 4}


@dataclass(frozen=True)
class _Value:
    type: int
    data: bytes  # little-endian

    @property
    def count(self) -> int:
        return len(self.data) // _SIZES[self.type]


_Directory = dict[int, Union[_Value, "_Directory"]]


class _DamagedError(Exception):
    """The bytes aren't a TIFF structure."""


def upright(blob: bytes) -> bytes | None:
    """An EXIF block with its prefix and orientation 1; None if it is damaged.

    Its thumbnail, which would still lie on its side, is unhooked.
    """
    body = bytearray(blob.removeprefix(PREFIX))
    try:
        order, first = _header(body)
        end = first + 2
        for tag, kind, _, position in _entries(body, order, first):
            if tag == _ORIENTATION and kind == 3:
                struct.pack_into(order + "H", body, position, 1)
            end = position + 4
        body[end : end + 4] = bytes(len(body[end : end + 4]))  # the next directory: a thumbnail's
    except _DamagedError:
        return None
    return PREFIX + bytes(body)


def resolution(blob: bytes) -> tuple[float, float] | None:
    """Horizontal and vertical pixels per inch, if the EXIF block says so."""
    body = blob.removeprefix(PREFIX)
    try:
        order, first = _header(body)
        directory = _read(body, order, first)
    except _DamagedError:
        return None
    per_inch = {2: 1.0, 3: 2.54}
    unit = directory.get(0x0128)
    code = unit.data[:1] if isinstance(unit, _Value) else b""
    factor = per_inch.get(code[0], 0.0) if code else 1.0
    found: list[float] = []
    for tag in (0x011A, 0x011B):
        value = directory.get(tag)
        if isinstance(value, _Value) and value.type == 5 and value.count:
            numerator, denominator = struct.unpack("<2I", value.data[:8])
            found.append(factor * numerator / denominator if denominator else 0.0)
    return (found[0], found[1]) if len(found) == 2 and min(found) > 0 else None


def from_tiff(data: bytes | mmap) -> bytes | None:
    """The descriptive tags of a TIFF file as an EXIF block; None if it has none.

    Args:
        data: the file, or something that is sliced like it (a memory map).
    """
    try:
        order, first = _header(data)
        directory = _read(data, order, first)
    except _DamagedError:  # BigTIFF counts as that too: its directories are laid out differently
        return None
    kept: _Directory = {tag: value for tag, value in directory.items() if tag in _DESCRIPTIVE}
    if not kept:
        return None
    kept[_ORIENTATION] = _Value(3, struct.pack("<H", 1))
    return PREFIX + b"II*\0" + struct.pack("<I", 8) + _pack(kept, 8)


def into_tiff(data: bytes | mmap, blob: bytes) -> bytes | None:
    """What to append to a TIFF file so that it has an EXIF block's descriptive tags too.

    The appended bytes begin with the new first directory: its offset goes to byte 4 of the file.

    Args:
        data: the file, of even length, or something that is sliced like it.
        blob: the EXIF block.

    Returns:
        None if there is nothing to add, or if the file isn't a little-endian classic TIFF.
    """
    body = blob.removeprefix(PREFIX)
    try:
        source_order, source_first = _header(body)
        source = _read(body, source_order, source_first)
        order, first = _header(data)
        if order != "<":
            return None
        # The file's own entries move as they are: the offsets in them stay true.
        kept = {tag: data[at - 8 : at + 4] for tag, _, _, at in _entries(data, order, first)}
    except _DamagedError:
        return None
    added: _Directory = {
        tag: value for tag, value in source.items() if tag in _DESCRIPTIVE and tag not in kept
    }
    return _pack(added, len(data), kept) if added else None


def _header(data: bytes | bytearray | mmap) -> tuple[str, int]:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4]))
    if order is None or len(data) < 8:
        raise _DamagedError
    return order, struct.unpack(order + "I", data[4:8])[0]


def _entries(
    data: bytes | bytearray | mmap, order: str, offset: int
) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and position of the value field of every entry."""
    if offset + 2 > len(data):
        raise _DamagedError
    (count,) = struct.unpack(order + "H", data[offset : offset + 2])
    if offset + 2 + 12 * count > len(data):
        raise _DamagedError
    for start in range(offset + 2, offset + 2 + 12 * count, 12):
        yield *struct.unpack(order + "HHI", data[start : start + 8]), start + 8


def _read(data: bytes | bytearray | mmap, order: str, offset: int, depth: int = 0) -> _Directory:
    found: _Directory = {}
    for tag, kind, count, position in _entries(data, order, offset):
        if kind not in _SIZES:
            continue
        length = _SIZES[kind] * count
        (target,) = struct.unpack(order + "I", data[position : position + 4])
        if tag in _SUB_DIRECTORIES:
            # A damaged part costs that part only.
            with suppress(_DamagedError):
                if depth < 2:
                    found[tag] = _read(data, order, target, depth + 1)
            continue
        start = position if length <= 4 else target
        if start + length > len(data):
            continue
        value = bytes(data[start : start + length])
        if order == ">":
            value = _swapped(value, _UNITS[kind])
        found[tag] = _Value(kind, value)
    return found


def _swapped(value: bytes, unit: int) -> bytes:
    return b"".join(value[i : i + unit][::-1] for i in range(0, len(value), unit))


def _pack(directory: _Directory, offset: int, ready: Mapping[int, bytes] | None = None) -> bytes:
    """A little-endian directory that will stand at `offset`, its values and sub-directories behind.

    Args:
        directory: what to write.
        offset: where.
        ready: further entries, 12 bytes each, taken as they are.
    """
    entries = dict(ready or {})
    behind = b""
    end = offset + 2 + 12 * (len(directory) + len(entries)) + 4
    for tag, value in directory.items():
        position = end + len(behind)
        if isinstance(value, _Value):
            field = value.data.ljust(4, b"\0")
            if len(value.data) > 4:
                behind += value.data + bytes(len(value.data) % 2)
                field = struct.pack("<I", position)
            entries[tag] = struct.pack("<HHI", tag, value.type, value.count) + field
        else:
            behind += _pack(value, position)
            entries[tag] = struct.pack("<HHII", tag, 4, 1, position)
    table = b"".join(entries[tag] for tag in sorted(entries))
    return struct.pack("<H", len(entries)) + table + bytes(4) + behind

"""EXIF, byte by byte: a small TIFF whose directories (IFD) list tags.

libvips carries EXIF through JPEG, PNG, WebP and AVIF; TIFF files keep the same tags in their own
directory, which it leaves alone, so those are moved here. BigTIFF, the form for files above 4 GB,
has wider fields and is otherwise the same.
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

_DESCRIPTION, _ORIENTATION = 0x010E, 0x0112
_SHAPE = b'{"shape": '  # what tifffile notes of the array: the size, which isn't that any more
_DIMENSIONS = (0xA002, 0xA003)  # width, height
_RESOLUTIONS, _UNIT = (0x011A, 0x011B), 0x0128
_EXIF = 0x8769
_SUB_DIRECTORIES = (_EXIF, 0x8825, 0xA005)  # Exif, GPS, interoperability
# Tags of a TIFF's own directory that describe the picture rather than the file's layout.
_DESCRIPTIVE = frozenset(
    {
        *(0x010E, 0x010F, 0x0110, 0x0131, 0x0132),  # description, make, model, software, date
        *(0x013B, 0x013C, 0x8298),  # artist, host computer, copyright
        *_SUB_DIRECTORIES,
    }
)
# Bytes of an element per type, and of the units in which byte order matters.
_SIZES = {
    **{1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4},
    **{16: 8, 17: 8, 18: 8},  # BigTIFF only
}
_UNITS = {**_SIZES, 5: 4, 10: 4}


@dataclass(frozen=True)
class _Layout:
    """How a file lays out its directories; formats as in the struct module."""

    order: str  # of bytes: "<" or ">"
    big: bool = False

    @property
    def count(self) -> str:
        """Format of the number of entries."""
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> str:
        """Format of an entry: tag, type, count; its value field follows."""
        return self.order + ("HHQ" if self.big else "HHI")

    @property
    def offset(self) -> str:
        """Format of an offset."""
        return self.order + ("Q" if self.big else "I")

    @property
    def field(self) -> int:
        """Bytes of an offset or value field."""
        return 8 if self.big else 4

    @property
    def before(self) -> int:
        """Bytes of an entry before its value field."""
        return struct.calcsize(self.entry)

    def number(self, data: bytes | bytearray | mmap, at: int) -> int:
        """The offset that stands at a position."""
        if at + self.field > len(data):
            raise _DamagedError
        return struct.unpack(self.offset, data[at : at + self.field])[0]


_CLASSIC = _Layout("<")


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
        layout, first = _header(body)
        end = first + 2
        for tag, kind, _, position in _entries(body, layout, first):
            if tag == _ORIENTATION and kind == 3:
                struct.pack_into(layout.order + "H", body, position, 1)
            end = position + 4
        body[end : end + 4] = bytes(len(body[end : end + 4]))  # the next directory: a thumbnail's
    except _DamagedError:
        return None
    return PREFIX + bytes(body)


def resized(blob: bytes, width: int, height: int, dpi: tuple[float, float] | None = None) -> bytes:
    """An EXIF block whose dimensions and resolution, where it has any, are those of the image now.

    Args:
        blob: the block.
        width: columns.
        height: rows.
        dpi: horizontal and vertical pixels per inch; None leaves what there is.
    """
    start = len(PREFIX) if blob.startswith(PREFIX) else 0
    body = bytearray(blob[start:])
    try:
        layout, first = _header(body)
        top = list(_entries(body, layout, first))
        units = [at for tag, kind, _, at in top if tag == _UNIT and kind == 3]
        for tag, kind, _, at in top:
            if dpi and tag in _RESOLUTIONS and kind == 5:
                target = layout.number(body, at)
                if target + 8 > len(body):
                    raise _DamagedError
                value = round(dpi[_RESOLUTIONS.index(tag)] * 1000)
                struct.pack_into(layout.order + "II", body, target, value, 1000)
        for at in units if dpi else []:
            struct.pack_into(layout.order + "H", body, at, 2)  # inches
        found = [
            entry
            for tag, _, _, at in top
            if tag == _EXIF
            for entry in _entries(body, layout, layout.number(body, at))
        ]
        for tag, kind, _, at in found:
            if tag in _DIMENSIONS and kind in (3, 4):
                value = (width, height)[_DIMENSIONS.index(tag)]
                # As a long, which four bytes always have room for.
                struct.pack_into(layout.order + "HHII", body, at - 8, tag, 4, 1, value)
    except _DamagedError:
        return blob
    return blob[:start] + bytes(body)


def resolution(blob: bytes) -> tuple[float, float] | None:
    """Horizontal and vertical pixels per inch, if the EXIF block says so."""
    body = blob.removeprefix(PREFIX)
    try:
        directory = _read(body, *_header(body))
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
        directory = _read(data, *_header(data))
    except _DamagedError:
        return None
    kept: _Directory = {tag: value for tag, value in directory.items() if tag in _DESCRIPTIVE}
    about = kept.get(_DESCRIPTION)
    if isinstance(about, _Value) and about.data.startswith(_SHAPE):
        del kept[_DESCRIPTION]
    if not kept:
        return None
    kept[_ORIENTATION] = _Value(3, struct.pack("<H", 1))
    return PREFIX + b"II*\0" + struct.pack("<I", 8) + _pack(kept, 8)


def tags_of_tiff(data: bytes | mmap, *wanted: int) -> dict[int, bytes]:
    """The tags of a TIFF's first directory; the values of those wanted, for the others nothing."""
    found: dict[int, bytes] = {}
    try:
        layout, first = _header(data)
        for tag, kind, count, at in _entries(data, layout, first):
            found[tag] = b""
            if tag in wanted and kind in _SIZES:
                length = _SIZES[kind] * count
                start = at if length <= layout.field else layout.number(data, at)
                found[tag] = bytes(data[start : start + length])
    except _DamagedError:
        return {}
    return found


def into_tiff(data: bytes | mmap, blob: bytes) -> tuple[bytes, int] | None:
    """What to append to a TIFF file so that it has an EXIF block's descriptive tags too.

    The appended bytes begin with the new first directory, whose offset goes into the header.

    Args:
        data: the file, of even length, or something that is sliced like it.
        blob: the EXIF block.

    Returns:
        The bytes, and where in the header the offset stands: 4 bytes at 4, or 8 at 8 in a BigTIFF.
        None if there is nothing to add, or if the file isn't a little-endian TIFF.
    """
    body = blob.removeprefix(PREFIX)
    try:
        source = _read(body, *_header(body))
        layout, first = _header(data)
        if layout.order != "<":
            return None
        # The file's own entries move as they are: the offsets in them stay true.
        field = layout.before + layout.field
        behind = first + struct.calcsize(layout.count)
        kept = {
            tag: data[at - layout.before : at + layout.field]
            for tag, _, _, at in _entries(data, layout, first)
        }
        following = layout.number(data, behind + len(kept) * field)
    except _DamagedError:
        return None
    added: _Directory = {
        tag: value for tag, value in source.items() if tag in _DESCRIPTIVE and tag not in kept
    }
    if not added:
        return None
    return _pack(added, len(data), layout, kept, following), layout.field


def _header(data: bytes | bytearray | mmap) -> tuple[_Layout, int]:
    """The layout and the offset of the first directory."""
    kinds = {
        b"II*\0": _Layout("<"),
        b"MM\0*": _Layout(">"),
        b"II+\0": _Layout("<", big=True),
        b"MM\0+": _Layout(">", big=True),
    }
    layout = kinds.get(bytes(data[:4]))
    if layout is None:
        raise _DamagedError
    return layout, layout.number(data, layout.field)


def _entries(
    data: bytes | bytearray | mmap, layout: _Layout, offset: int
) -> Iterator[tuple[int, int, int, int]]:
    """Tag, type, count and position of the value field of every entry."""
    begin = offset + struct.calcsize(layout.count)
    if begin > len(data):
        raise _DamagedError
    (count,) = struct.unpack(layout.count, data[offset:begin])
    step = layout.before + layout.field
    if begin + step * count > len(data):
        raise _DamagedError
    for start in range(begin, begin + step * count, step):
        at = start + layout.before
        yield *struct.unpack(layout.entry, data[start:at]), at


def _read(
    data: bytes | bytearray | mmap, layout: _Layout, offset: int, depth: int = 0
) -> _Directory:
    found: _Directory = {}
    for tag, kind, count, position in _entries(data, layout, offset):
        if kind not in _SIZES:
            continue
        length = _SIZES[kind] * count
        if tag in _SUB_DIRECTORIES:
            # A damaged part costs that part only.
            with suppress(_DamagedError):
                if depth < 2:
                    target = layout.number(data, position)
                    if layout.big and _SIZES[kind] == 4:  # the first four bytes of eight
                        (target,) = struct.unpack(layout.order + "I", data[position : position + 4])
                    found[tag] = _read(data, layout, target, depth + 1)
            continue
        start = position if length <= layout.field else layout.number(data, position)
        if start + length > len(data):
            continue
        value = bytes(data[start : start + length])
        if layout.order == ">":
            value = _swapped(value, _UNITS[kind])
        found[tag] = _Value(kind, value)
    return found


def _swapped(value: bytes, unit: int) -> bytes:
    return b"".join(value[i : i + unit][::-1] for i in range(0, len(value), unit))


def _pack(
    directory: _Directory,
    offset: int,
    layout: _Layout = _CLASSIC,
    ready: Mapping[int, bytes] | None = None,
    following: int = 0,
) -> bytes:
    """A directory that will stand at `offset`, its values and sub-directories behind.

    Args:
        directory: what to write.
        offset: where.
        layout: of the file, little-endian.
        ready: further entries, taken as they are.
        following: offset of the next directory; 0 if there is none.
    """
    entries = dict(ready or {})
    behind = b""
    table_bytes = (layout.before + layout.field) * (len(directory) + len(entries))
    end = offset + struct.calcsize(layout.count) + table_bytes + layout.field
    for tag, value in directory.items():
        position = end + len(behind)
        if isinstance(value, _Value):
            field = value.data.ljust(layout.field, b"\0")
            if len(value.data) > layout.field:
                behind += value.data + bytes(len(value.data) % 2)
                field = struct.pack(layout.offset, position)
            entries[tag] = struct.pack(layout.entry, tag, value.type, value.count) + field
        else:
            behind += _pack(value, position, layout)
            behind += bytes(len(behind) % 2)
            kind = 16 if layout.big else 4
            field = struct.pack(layout.offset, position)
            entries[tag] = struct.pack(layout.entry, tag, kind, 1) + field
    table = b"".join(entries[tag] for tag in sorted(entries))
    head, tail = struct.pack(layout.count, len(entries)), struct.pack(layout.offset, following)
    return head + table + tail + behind

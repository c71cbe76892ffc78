"""MATLAB's files of weights: variables, structures and cells as nested dictionaries of tensors.

Read here rather than by SciPy, whose reader ends the process on some damaged files. Only what
weights are made of is understood; everything else is passed over by its length.

Format ("MAT-File Level 5", versions 5 to 7): a header of 128 bytes, then elements. An element is a
tag (type, number of bytes), the bytes, and padding to a multiple of 8; up to 4 bytes stand within
the tag. A matrix is an element of elements: flags, dimensions, name, content.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hspan.errors import InputError, WeightsError

MAGIC = b"MATLAB 5.0 MAT-file"  # versions 5 to 7 of the format
MAGIC_HDF5 = b"MATLAB 7.3 MAT-file"

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCT, _CHAR = 1, 2, 4  # classes of matrices
_NUMERIC = range(6, 16)
_COMPLEX = 0x800
_DEEPEST = 32  # nesting of structures and cells
_LARGEST_GROWTH = 100  # of a compressed variable; weights shrink by a few percent


class _DamagedError(Exception):
    """The bytes aren't a sequence of elements."""


@dataclass(frozen=True)
class _Element:
    type: int
    data: memoryview


def read_matlab(path: Path) -> dict[str, Any]:
    """Read all numbers of a file.

    Returns:
        Tensors by name, in MATLAB's order of dimensions; fields of structures and, numbered from
        0, elements of cells as dictionaries. MatConvNet's list of parameters becomes a dictionary
        by their names, and what else its networks hold (layers, options) is left out, as are text,
        complex numbers and empty arrays.

    Raises:
        InputError: the file can't be read.
        WeightsError: the file is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or error}") from error
    try:
        order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
        if order is None:
            raise _DamagedError("no byte order in its header")
        found: dict[str, Any] = {}
        for element in _elements(memoryview(content)[_HEADER:], order):
            inner = _decompressed(element, order) if element.type == _COMPRESSED else element
            if inner.type == _MATRIX:
                name, value = _matrix(inner.data, order, 0)
                found[name] = value
    except (_DamagedError, struct.error, zlib.error, UnicodeError) as error:
        raise WeightsError(
            f"{path} is a damaged or incomplete MATLAB file ({error}); fetch it again"
        ) from error
    return _numbers(found)


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    position = 0
    while position + 8 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, position)
        if kind >> 16:  # the small form: number of bytes, type, bytes
            kind, size = kind & 0xFFFF, kind >> 16
            start, following = position + 4, position + 8
            if size > 4:
                raise _DamagedError(f"a small element of {size} bytes")
        else:
            start = position + 8
            padded = size if kind == _COMPRESSED else -(-size // 8) * 8
            following = start + padded
        if start + size > len(data):
            raise _DamagedError(f"an element of {size} bytes where {len(data) - start} are left")
        yield _Element(kind, data[start : start + size])
        position = following


def _decompressed(element: _Element, order: str) -> _Element:
    limit = _LARGEST_GROWTH * len(element.data) + 4096
    expander = zlib.decompressobj()
    data = expander.decompress(element.data, limit)
    if expander.unconsumed_tail:
        raise _DamagedError(f"a variable that grows more than {_LARGEST_GROWTH} times")
    inner = next(_elements(memoryview(data), order), None)
    if inner is None:
        raise _DamagedError("an empty variable")
    return inner


def _matrix(data: memoryview, order: str, depth: int) -> tuple[str, Any]:
    """Name and value: a tensor, a text, a dictionary of such; None for what is none of these."""
    if depth > _DEEPEST:
        raise _DamagedError("structures too deep in each other")
    if not len(data):
        return "", None
    parts = _elements(data, order)
    flags = _array(_next(parts), order)
    shape = [int(n) for n in _array(_next(parts), order)]
    name = bytes(_next(parts).data).decode("latin-1")
    if not len(flags) or len(shape) < 2 or min(shape) < 0:
        raise _DamagedError("a matrix without size or kind")
    kind, count = int(flags[0]) & 0xFF, math.prod(shape)

    def inner() -> Any:
        element = _next(parts)
        if element.type != _MATRIX:
            raise _DamagedError(f"a part of type {element.type} instead of a matrix")
        return _matrix(element.data, order, depth + 1)[1]

    if kind in _NUMERIC and not int(flags[0]) & _COMPLEX and count:
        values = _array(_next(parts), order)
        if len(values) != count:
            raise _DamagedError(f"{len(values)} numbers for a matrix of {count}")
        plain = np.array(values.reshape(shape, order="F"), dtype=np.float32, order="C")
        return name, torch.from_numpy(plain)
    if kind == _CHAR and count and count == shape[1]:
        return name, _text(_next(parts), order)
    if kind == _CELL:
        _check_count(count, data)
        return name, _collected([inner() for _ in range(count)])
    if kind == _STRUCT:
        return name, _structures(parts, order, count, data, inner)
    return name, None


def _structures(
    parts: Iterator[_Element],
    order: str,
    count: int,
    data: memoryview,
    inner: Callable[[], Any],
) -> Any:
    length = _array(_next(parts), order)
    names = bytes(_next(parts).data)
    if len(length) != 1 or int(length[0]) < 1 or len(names) % int(length[0]):
        raise _DamagedError("a structure without names of its fields")
    step = int(length[0])
    fields = [names[i : i + step].split(b"\0")[0] for i in range(0, len(names), step)]
    _check_count(count * max(len(fields), 1), data)
    items = [{f.decode("latin-1"): inner() for f in fields} for _ in range(count)]
    network = {b"params", b"layers"} <= set(fields) and count == 1
    return items[0]["params"] if network else _collected(items)


def _collected(items: list[Any]) -> Any:
    """One item by itself, parameters by their names, others by number."""
    if len(items) == 1:
        return items[0]
    if items and all(isinstance(i, dict) and isinstance(i.get("name"), str) for i in items):
        return {item["name"]: item.get("value") for item in items}
    return {str(i): item for i, item in enumerate(items)}


def _check_count(count: int, data: memoryview) -> None:
    """Every part takes a tag of 8 bytes at least: more can't be there."""
    if count > len(data) // 8:
        raise _DamagedError(f"{count} parts in {len(data)} bytes")


def _next(parts: Iterator[_Element]) -> _Element:
    element = next(parts, None)
    if element is None:
        raise _DamagedError("a matrix that ends early")
    return element


def _array(element: _Element, order: str) -> np.ndarray:
    kind = _NUMBERS.get(element.type)
    if kind is None or len(element.data) % int(kind[1]):
        raise _DamagedError(f"numbers of type {element.type} in {len(element.data)} bytes")
    return np.frombuffer(element.data, order + kind)


def _text(element: _Element, order: str) -> str | None:
    encoding = _TEXTS.get(element.type)
    if encoding is None:
        return None
    if encoding in ("utf-16", "utf-32"):
        encoding += "-le" if order == "<" else "-be"
    return bytes(element.data).decode(encoding)


def _numbers(entries: dict[str, Any]) -> dict[str, Any]:
    """Dictionaries of tensors without texts and what is None."""
    inner = {k: _numbers(v) if isinstance(v, dict) else v for k, v in entries.items()}
    return {
        k: v for k, v in inner.items() if isinstance(v, torch.Tensor) or (isinstance(v, dict) and v)
    }

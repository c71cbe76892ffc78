"""Images larger than memory: uncompressed in a file of the disk, mapped as an array.

A map's pages count as memory of the process for as long as they are mapped in; ``release`` gives
them back, so that an image of any size takes no more than what was touched since.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from hspan.errors import InputError


def create_scratch(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
    """An array of zeros in a new file, whose room on the disk is taken at once.

    A disk that fills up later would end the process without a word.

    Raises:
        InputError: there is no room.
    """
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    try:
        with path.open("w+b") as file:
            reserve(file, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise InputError(
            f"no room for {size / 1e9:.1f} GB of pixels in {path.parent}: {error.strerror or error}"
        ) from error
    return open_scratch(path, shape, dtype)


def reserve(file: IO[bytes], size: int) -> None:
    """Take so many bytes of zeros on the disk for an empty file.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


def open_scratch(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
    """The array in a file that is there, to be read and written."""
    return np.memmap(path, dtype=dtype, mode="r+", shape=shape)


def release(*arrays: np.ndarray | None) -> None:
    """Let go of the pages of mapped arrays; what was written stays. Other arrays are left alone."""
    for array in arrays:
        mapped = _map_of(array)
        if mapped is not None and hasattr(mapped, "madvise"):
            mapped.madvise(mmap.MADV_DONTNEED)


def flush(*arrays: np.ndarray | None) -> None:
    """Have what was written to mapped arrays on the disk, should the power fail."""
    for array in arrays:
        mapped = _map_of(array)
        if mapped is not None:
            mapped.flush()


def raw_file(pixels: np.ndarray, alpha: np.ndarray | None) -> Path | None:
    """The file that holds exactly these values, pixel by pixel with alpha last, if there is one."""
    mapped = _map_of(pixels)
    name = getattr(pixels, "filename", None)
    if mapped is None or not isinstance(name, (str, os.PathLike)):
        return None
    height, width, colours = pixels.shape
    item = pixels.itemsize
    bands = colours + (alpha is not None)
    if pixels.strides != (width * bands * item, bands * item, item):
        return None
    if len(mapped) != height * width * bands * item or _address(mapped) != pixels.ctypes.data:
        return None
    if alpha is not None and (
        alpha.strides != (width * bands * item, bands * item)
        or alpha.ctypes.data != pixels.ctypes.data + colours * item
    ):
        return None
    return Path(os.fspath(name))


def _map_of(array: np.ndarray | None) -> Any:
    return getattr(array, "_mmap", None) if isinstance(array, np.memmap) else None


def _address(mapped: mmap.mmap) -> int:
    return np.frombuffer(mapped, np.uint8).ctypes.data

"""Files of measurements: any number of bands, each upscaled by itself, in a frame of its own.

GeoTIFF, OME-TIFF and DICOM hold values rather than colours: elevations, reflectances, counts, and a
place or size in the world. Every band goes through the network alone, as a grey image whose black
and white are the band's least and largest value; pixels without data are left out, as transparent
ones are. Only a GeoTIFF whose three bands are red, green and blue is treated as a photograph.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from hspan.errors import InputError
from hspan.imaging import _exif
from hspan.imaging._formats import HEADER_BYTES, recognise
from hspan.imaging._picture import ImageInfo, Picture
from hspan.imaging._scratch import create_scratch, release

ROWS = 256  # read and written at once
_GEO_TAGS = {33550, 33922, 34264, 34735, 42113}  # scale, tie points, matrix, keys, GDAL's no-data
_DESCRIPTION = 270
_OME = b"http://www.openmicroscopy.org/Schemas/OME"
_TIFF_SUFFIXES = (".tif", ".tiff")


class Layers(Protocol):
    """An open file of measurements."""

    info: ImageInfo  # of a layer as it goes through the network; pages is the number of layers

    def layer(self, index: int, scratch: Path) -> Picture:
        """Read one layer into a file; alpha is 1 where there is data."""
        ...

    def write(self, path: Path, results: Sequence[Picture]) -> None:
        """Write a file like this one with larger layers, at a new path."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


@dataclass(frozen=True)
class Range:
    """The values that stand for 0 and 1."""

    low: float
    high: float

    def to_unit(self, values: np.ndarray) -> np.ndarray:
        """Measurements to float32 in [0, 1]."""
        span = (self.high - self.low) or 1.0
        return ((values.astype(np.float64) - self.low) / span).astype(np.float32)

    def from_unit(self, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The way back; whole numbers are rounded, and clipped to what the type holds."""
        found = values.astype(np.float64) * (self.high - self.low) + self.low
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            found = np.clip(np.rint(found), limits.min, limits.max)
        return found.astype(dtype)


Blocks = Callable[[], Iterable[tuple[np.ndarray, np.ndarray | None]]]
"""Calls give a band from the top, some rows at a time: values and where they are data."""


def measure_range(path: Path, blocks: Blocks) -> Range:
    """Least and largest value of a band.

    Raises:
        InputError: there is none that is finite.
    """
    low, high = np.inf, -np.inf
    for values, valid in blocks():
        seen = values[np.isfinite(values) if valid is None else valid & np.isfinite(values)]
        if seen.size:
            low, high = min(low, float(seen.min())), max(high, float(seen.max()))
    if not np.isfinite(low):
        raise InputError(f"{path} has a band without a single value: there is nothing to upscale")
    return Range(low, high)


def measured_layer(
    blocks: Blocks, size: tuple[int, int], span: Range, masked: bool, scratch: Path
) -> Picture:
    """A band as a picture: float32, grey, with alpha where values may be missing."""
    array = create_scratch(scratch, (*size, 2 if masked else 1), np.dtype(np.float32))
    row = 0
    for values, valid in blocks():
        there = np.isfinite(values) if valid is None else valid & np.isfinite(values)
        rows = slice(row, row + len(values))
        array[rows, :, 0] = np.where(there, span.to_unit(np.where(there, values, span.low)), 0)
        if masked:
            array[rows, :, 1] = there
        row += len(values)
        release(array)
    return Picture(array[:, :, :1], array[:, :, 1] if masked else None, format="TIFF")


def measured_rows(
    result: Picture, span: Range, dtype: np.dtype, nodata: float | None
) -> Iterator[tuple[int, np.ndarray]]:
    """A result as measurements again: first row and values of some rows at a time."""
    for row in range(0, result.height, ROWS):
        values = span.from_unit(result.pixels[row : row + ROWS, :, 0], dtype)
        if result.alpha is not None:
            there = result.alpha[row : row + ROWS] >= 0.5
            if nodata is not None:
                if dtype.kind in "iu":  # a value must not turn into a sign for none
                    other = nodata + 1 if nodata < np.iinfo(dtype).max else nodata - 1
                    values[there & (values == nodata)] = int(other)
                values[~there] = nodata
        release(result.pixels, result.alpha)
        yield row, values


def open_layers(path: Path, target: Path | None = None) -> Layers | None:
    """Open a file of measurements; None if it isn't one, or isn't to be written as one.

    Args:
        path: the file.
        target: what it is to become; another format has no place for what is special here.

    Raises:
        InputError: it can't be read, or the package that reads it isn't installed.
    """
    kind = _kind(path)
    suffix = (target or path).suffix.lower()
    if kind == "DICOM":
        from hspan.imaging._dicom import DicomLayers

        return DicomLayers(path)
    if kind is None or (target is not None and suffix not in _TIFF_SUFFIXES):
        return None
    if kind == "OME-TIFF":
        from hspan.imaging._ome import OmeLayers

        return OmeLayers(path)
    from hspan.imaging._geotiff import GeoLayers

    return GeoLayers(path)


def missing(path: Path, what: str, extra: str) -> InputError:
    """What to say where a package isn't installed."""
    return InputError(
        f"{path} is a {what} file: install what reads it with pip install 'hspan[{extra}]'"
    )


def _kind(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            format_name = recognise(file.read(HEADER_BYTES))
            if format_name != "TIFF":
                return "DICOM" if format_name == "DICOM" else None
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                tags = _exif.tags_of_tiff(data, _DESCRIPTION)
    except OSError:  # whoever reads it says what is wrong
        return None
    if _GEO_TAGS & tags.keys():
        return "GeoTIFF"
    return "OME-TIFF" if _OME in tags.get(_DESCRIPTION, b"") else None

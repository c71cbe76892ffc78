"""OME-TIFF through tifffile: the same planes in the same order, with finer pixels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hspan.errors import InputError
from hspan.imaging._layers import (
    ROWS,
    Range,
    measure_range,
    measured_layer,
    measured_rows,
    missing,
)
from hspan.imaging._picture import ImageInfo, Picture

_BIG = 2**32 - 2**26  # bytes from which on a TIFF needs 64-bit offsets


class OmeLayers:
    """The planes (over channels, depths, times) of an OME-TIFF in the order of the file."""

    def __init__(self, path: Path) -> None:
        try:
            import tifffile
        except ImportError as error:
            raise missing(path, "OME-TIFF", "science") from error
        self.path = path
        try:
            self._file = tifffile.TiffFile(path)
        except (tifffile.TiffFileError, OSError, ValueError) as error:
            raise InputError(f"{path} can't be read as an OME-TIFF: {error}") from error
        pages: list[Any] = list(self._file.pages)
        shapes = {(p.shape, p.dtype) for p in pages}
        if len(shapes) > 1 or len(pages[0].shape) != 2 or pages[0].dtype.kind not in "iuf":
            raise InputError(
                f"{path} has planes in colour or of different sizes or types: save it as grey "
                "planes of one size"
            )
        self._xml = str(self._file.ome_metadata)
        if len(set(re.findall(r'FileName="([^"]*)"', self._xml))) > 1:
            raise InputError(f"{path} is one of several files of a set: join them first")
        self.dtype = np.dtype(pages[0].dtype).newbyteorder("=")
        self._ranges: dict[int, Range] = {}
        self.info = ImageInfo(
            width=int(pages[0].shape[1]),
            height=int(pages[0].shape[0]),
            channels=1 + (self.dtype.kind == "f"),
            dtype=np.dtype(np.float32),
            pages=len(pages),
            format="OME-TIFF",
        )

    def layer(self, index: int, scratch: Path) -> Picture:
        """As in ``Layers``."""
        blocks, size = self._blocks(index), (self.info.height, self.info.width)
        span = self._ranges[index] = measure_range(self.path, blocks)
        return measured_layer(blocks, size, span, self.dtype.kind == "f", scratch)

    def write(self, path: Path, results: Sequence[Picture]) -> None:
        """As in ``Layers``."""
        import tifffile

        scale = results[0].width // self.info.width
        size = (results[0].height, results[0].width)
        big = len(results) * size[0] * size[1] * self.dtype.itemsize > _BIG
        with tifffile.TiffWriter(path, bigtiff=big, byteorder="<") as out:
            for index, result in enumerate(results):
                out.write(
                    self._strips(index, result),
                    shape=size,
                    dtype=self.dtype,
                    rowsperstrip=ROWS,
                    photometric="minisblack",
                    compression="zlib",
                    predictor=self.dtype.kind != "f",
                    description=_finer(self._xml, scale).encode() if index == 0 else None,
                    metadata=None,
                    software=False,
                )

    def close(self) -> None:
        """As in ``Layers``."""
        self._file.close()

    def _strips(self, index: int, result: Picture) -> Iterator[np.ndarray]:
        span = self._ranges.get(index) or measure_range(self.path, self._blocks(index))
        nodata = float("nan") if self.dtype.kind == "f" else None
        for _, values in measured_rows(result, span, self.dtype, nodata):
            yield values

    def _blocks(self, index: int) -> Callable[[], Iterable[tuple[np.ndarray, np.ndarray | None]]]:
        plane = self._file.pages[index].asarray()

        def read() -> Iterable[tuple[np.ndarray, np.ndarray | None]]:
            for row in range(0, len(plane), ROWS):
                yield plane[row : row + ROWS], None

        return read


def _finer(xml: str, scale: int) -> str:
    """OME-XML with sizes multiplied and physical sizes of a pixel divided, in x and y."""

    def larger(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) * scale}{found[3]}"

    def smaller(found: re.Match[str]) -> str:
        return f"{found[1]}{float(found[2]) / scale!r}{found[3]}"

    xml = re.sub(r'(\bSize[XY]=")(\d+)(")', larger, xml)
    return re.sub(r'(\bPhysicalSize[XY]=")([^"]+)(")', smaller, xml)

"""GeoTIFF through rasterio: the same piece of the world with more pixels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from hspan.imaging._scratch import create_scratch, release

if TYPE_CHECKING:
    from rasterio.io import DatasetReader, DatasetWriter

_CACHE_MB = 64  # of GDAL: its own share of the memory may be gigabytes
_RPC_PIXELS = ("line_off", "line_scale", "samp_off", "samp_scale")


class GeoLayers:
    """The bands of a GeoTIFF: three colours as one layer, or every band by itself."""

    def __init__(self, path: Path) -> None:
        try:
            import rasterio
            import rasterio.errors
        except ImportError as error:
            raise missing(path, "GeoTIFF", "geo") from error
        self.path = path
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_MB), _unplaced_allowed():
            try:
                self._file: DatasetReader = rasterio.open(path)
            except rasterio.errors.RasterioIOError as error:
                raise InputError(f"{path} can't be read as a GeoTIFF: {error}") from error
        file = self._file
        kinds = {np.dtype(name).kind for name in file.dtypes}
        if len(set(file.dtypes)) > 1 or not kinds <= set("iuf"):
            raise InputError(f"{path} has bands of types {', '.join(file.dtypes)}: split them")
        names = [interpretation.name for interpretation in file.colorinterp]
        if "palette" in names:
            raise InputError(
                f"{path} is a map of classes, which can't be upscaled as an image: turn it into "
                "colours first (gdal_translate -expand rgb)"
            )
        self.dtype = np.dtype(file.dtypes[0])
        self._colours = names[:3] == ["red", "green", "blue"] and file.count == 3
        self._colours = self._colours and self.dtype.name in ("uint8", "uint16")
        self._masked = self._has_gaps()
        self._ranges: dict[int, Range] = {}
        self.info = ImageInfo(
            width=file.width,
            height=file.height,
            channels=(3 if self._colours else 1) + self._masked,
            dtype=self.dtype if self._colours else np.dtype(np.float32),
            pages=1 if self._colours else file.count,
            format="GeoTIFF",
        )

    def layer(self, index: int, scratch: Path) -> Picture:
        """As in ``Layers``."""
        size = (self.info.height, self.info.width)
        if self._colours:
            return self._colour_layer(scratch)
        blocks = self._blocks(index + 1)
        span = self._ranges[index] = measure_range(self.path, blocks)
        return measured_layer(blocks, size, span, self._masked, scratch)

    def write(self, path: Path, results: Sequence[Picture]) -> None:
        """As in ``Layers``."""
        import rasterio

        file, scale = self._file, results[0].width // self.info.width
        profile: dict[str, Any] = {
            "driver": "GTiff",
            "width": results[0].width,
            "height": results[0].height,
            "count": file.count,
            "dtype": file.dtypes[0],
            "nodata": file.nodata,
            "tiled": True,
            "blockxsize": ROWS,
            "blockysize": ROWS,
            "compress": "deflate",
            "predictor": 3 if self.dtype.kind == "f" else 2,
            "BIGTIFF": "IF_SAFER",
            "photometric": "RGB" if self._colours else "MINISBLACK",
        }
        if file.crs is not None:
            profile["crs"] = file.crs
        profile |= self._control(scale)
        if not file.transform.is_identity:
            a, b, c, d, e, f = file.transform[:6]
            finer = (a / scale, b / scale, c, d / scale, e / scale, f)
            profile["transform"] = type(file.transform)(*finer)
        with (
            _unplaced_allowed(),
            rasterio.Env(GDAL_CACHEMAX=_CACHE_MB, GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", **profile) as out,
        ):
            self._describe(out)
            for index, result in enumerate(results):
                if self._colours:
                    self._write_colours(out, result)
                    continue
                span = self._ranges.get(index) or measure_range(self.path, self._blocks(index + 1))
                for row, values in measured_rows(result, span, self.dtype, file.nodata):
                    out.write(values, index + 1, window=_window(row, len(values), result.width))
            if self._masked and file.nodata is None:
                alpha = results[0].alpha
                assert alpha is not None
                for row in range(0, len(alpha), ROWS):
                    there = alpha[row : row + ROWS] >= _half(alpha.dtype)
                    window = _window(row, len(there), alpha.shape[1])
                    out.write_mask(there, window=window)

    def close(self) -> None:
        """As in ``Layers``."""
        self._file.close()

    def _has_gaps(self) -> bool:
        from rasterio.enums import MaskFlags

        flags = [flag for band in self._file.mask_flag_enums for flag in band]
        return MaskFlags.all_valid not in flags or self.dtype.kind == "f"

    def _blocks(self, band: int) -> Callable[[], Iterable[tuple[np.ndarray, np.ndarray | None]]]:
        def read() -> Iterable[tuple[np.ndarray, np.ndarray | None]]:
            for row in range(0, self._file.height, ROWS):
                rows = min(ROWS, self._file.height - row)
                window = _window(row, rows, self._file.width)
                valid = self._file.read_masks(band, window=window) > 0 if self._masked else None
                yield self._file.read(band, window=window), valid

        return read

    def _colour_layer(self, scratch: Path) -> Picture:
        file = self._file
        shape = (file.height, file.width, 3 + self._masked)
        array = create_scratch(scratch, shape, self.dtype)
        for row in range(0, file.height, ROWS):
            rows = min(ROWS, file.height - row)
            window = _window(row, rows, file.width)
            array[row : row + rows, :, :3] = np.moveaxis(file.read(window=window), 0, 2)
            if self._masked:
                there = file.dataset_mask(window=window) > 0
                array[row : row + rows, :, 3] = there * np.iinfo(self.dtype).max
            release(array)
        return Picture(array[:, :, :3], array[:, :, 3] if self._masked else None, format="TIFF")

    def _write_colours(self, out: DatasetWriter, result: Picture) -> None:
        nodata = self._file.nodata
        for row in range(0, result.height, ROWS):
            values = np.moveaxis(result.pixels[row : row + ROWS], 2, 0).copy()
            if result.alpha is not None and nodata is not None:
                there = result.alpha[row : row + ROWS] >= _half(self.dtype)
                blank = there & (values == nodata).all(axis=0)
                values[:, blank] = int(
                    nodata + 1 if nodata < np.iinfo(self.dtype).max else nodata - 1
                )
                values[:, ~there] = int(nodata)
            out.write(values, window=_window(row, values.shape[1], result.width))
            release(result.pixels, result.alpha)

    def _describe(self, out: DatasetWriter) -> None:
        """All that the file says besides its values; statistics of the old values excepted."""
        file = self._file
        out.colorinterp = file.colorinterp
        out.descriptions = file.descriptions
        out.scales, out.offsets, out.units = file.scales, file.offsets, file.units
        out.update_tags(**file.tags())
        for band in range(1, file.count + 1):
            tags = {k: v for k, v in file.tags(band).items() if not k.startswith("STATISTICS_")}
            out.update_tags(band, **tags)

    def _control(self, scale: int) -> dict[str, Any]:
        """Ground control points and rational polynomials, where the file has them."""
        found: dict[str, Any] = {}
        points, crs = self._file.gcps
        if points:
            for point in points:
                point.row, point.col = point.row * scale, point.col * scale
            found |= {"gcps": points, "crs": crs}
        if (rpcs := self._file.rpcs) is not None:
            for name in _RPC_PIXELS:
                setattr(rpcs, name, getattr(rpcs, name) * scale)
            # Offsets name pixel centres, counted from 0.
            rpcs.line_off += (scale - 1) / 2
            rpcs.samp_off += (scale - 1) / 2
            found["rpcs"] = rpcs
        return found


@contextmanager
def _unplaced_allowed() -> Generator[None, None, None]:
    """A raster may have values without data and no place in the world."""
    from rasterio.errors import NotGeoreferencedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _window(row: int, rows: int, width: int) -> Any:
    from rasterio.windows import Window

    return Window(0, row, width, rows)  # pyright: ignore[reportCallIssue] (made by attrs)


def _half(dtype: np.dtype) -> float:
    return np.iinfo(dtype).max / 2 if dtype.kind == "u" else 0.5

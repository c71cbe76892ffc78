"""An image file in memory, with everything that must survive a round trip through a network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hspan.errors import InputError

_DTYPES = ("uint8", "uint16", "float32")


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels and what belongs to them; make changed copies with ``dataclasses.replace``.

    Attributes:
        pixels: H×W×C, C 1 (grey) or 3 (RGB); uint8, uint16 or float32 (nominally 0 to 1).
        alpha: H×W of the same dtype, not multiplied into the pixels; None is opaque.
        icc: the colour profile that the pixels are meant in; None is sRGB or unknown.
        exif: the EXIF block, beginning with the six bytes that JPEG puts before it. Its
            orientation is 1, as the pixels already stand upright; writing brings its dimensions and
            resolution up to date.
        dpi: horizontal and vertical pixels per inch, None if the file doesn't say.
        format: what the file was: "PNG", "JPEG", "WebP", "TIFF", "GIF", "AVIF" or "BMP".
        xmp: the XMP packet; writing brings its orientation and dimensions up to date.
        bits: that the file had per channel, where uint16 holds fewer than 16 (AVIF: 10 or 12);
            0 is all of the dtype's.
        pages: of equal size, below one another in the arrays.
        tiled: whether the file was laid out in tiles (TIFF).

    Raises:
        InputError: shapes or dtypes other than these.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    format: str = "PNG"
    xmp: bytes | None = None
    bits: int = 0
    pages: int = 1
    tiled: bool = False

    def __post_init__(self) -> None:
        pixels, alpha = self.pixels, self.alpha
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
            raise InputError(f"pixels must be height×width×1 or ×3, got shape {pixels.shape}")
        if pixels.dtype not in _DTYPES:
            raise InputError(f"pixels must be uint8, uint16 or float32, got {pixels.dtype}")
        if alpha is not None and (alpha.shape != pixels.shape[:2] or alpha.dtype != pixels.dtype):
            raise InputError(
                f"alpha must match the pixels, {pixels.shape[:2]} {pixels.dtype}, "
                f"got {alpha.shape} {alpha.dtype}"
            )
        if self.pages < 1 or pixels.shape[0] % self.pages:
            raise InputError(f"{pixels.shape[0]} rows can't be {self.pages} equal pages")

    def enlarged(self, pixels: np.ndarray, alpha: np.ndarray | None) -> Picture:
        """A picture of the same things with more pixels, and so with more of them per inch."""
        y, x = pixels.shape[0] / self.height, pixels.shape[1] / self.width
        dpi = (self.dpi[0] * x, self.dpi[1] * y) if self.dpi else None
        return replace(self, pixels=pixels, alpha=alpha, dpi=dpi)

    def page(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Views of one page's pixels and alpha."""
        rows = self.height // self.pages
        part = slice(index * rows, (index + 1) * rows)
        return self.pixels[part], None if self.alpha is None else self.alpha[part]

    @property
    def height(self) -> int:
        """Rows, of all pages."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """Channels including alpha: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""
        return int(self.pixels.shape[2]) + (self.alpha is not None)

    @property
    def dtype(self) -> np.dtype:
        """Of pixels and alpha."""
        return self.pixels.dtype


@dataclass(frozen=True)
class ImageInfo:
    """What a file's header says about the `Picture` that it would become.

    Attributes:
        width: columns, the picture standing upright.
        height: rows.
        channels: including alpha: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        dtype: uint8, uint16 or float32.
        pages: frames or pages; of measurements, bands that are upscaled by themselves.
        format: as in `Picture`; or "GeoTIFF", "OME-TIFF" or "DICOM".
        bits: as in `Picture`.
    """

    width: int
    height: int
    channels: int
    dtype: np.dtype
    pages: int
    format: str
    bits: int = 0

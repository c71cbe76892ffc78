"""Writing image files: all or nothing, and nothing lost in silence."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hspan._whole_files import new_file
from hspan.errors import InputError, UsageError
from hspan.imaging import _exif, _jfif, _png, _xmp
from hspan.imaging._formats import (
    WRITABLE_SUFFIXES,
    lossless_suffix,
    what_is_lost,
    writable_format,
)
from hspan.imaging._picture import Picture
from hspan.imaging._read import profile_fits
from hspan.imaging._scratch import raw_file, release

if TYPE_CHECKING:
    import pyvips

_KEEP_EXIF, _KEEP_XMP, _KEEP_ICC = 1, 2, 8
_VIPS_FORMATS = {"uint8": "uchar", "uint16": "ushort", "float32": "float"}
_MODELS = {
    ("uint8", 1): "b-w",
    ("uint8", 3): "srgb",
    ("uint16", 1): "grey16",
    ("uint16", 3): "rgb16",
    ("float32", 1): "b-w",
    ("float32", 3): "scrgb",
}
_DEFAULT_DPI = 72.0  # a value that TIFF and EXIF demand even where nobody knows
_AVIF_EFFORT = 4  # of 9: beyond, minutes for a hundredth of the size
_TIFF_TILE = 256
_OPTIMISED_PIXELS = 2**26  # optimised Huffman tables need a JPEG's coefficients in memory
_CLASSIC_TIFF_BYTES = 2**32 - 2**26  # beyond, offsets need BigTIFF


def write_image(path: str | os.PathLike[str], picture: Picture, *, quality: int = 95) -> None:
    """Write an image file under a temporary name and move it into place once it is whole.

    Depth, alpha, profile, EXIF, XMP and resolution are kept. A profile of another colour model than
    the pixels' is left out, as readers would reject it; WebP and AVIF have a resolution only within
    EXIF. Pixels in a file of their own (``create_scratch``) are read from there, a few rows at a
    time.

    Args:
        path: its suffix names the format: one of `WRITABLE_SUFFIXES`. An existing file is replaced.
        picture: what to write; its arrays may be memory maps and aren't copied if contiguous.
        quality: 1 to 100, for JPEG, WebP and AVIF; the latter two are lossless at 100.

    Raises:
        UsageError: `quality` out of range.
        InputError: a suffix that can't be written, a format that would lose depth or transparency
            or that ends at fewer pixels, or a folder that can't be written to.
    """
    path = Path(path)
    if not 1 <= quality <= 100:
        raise UsageError(f"quality must be from 1 to 100, got {quality}")
    name = writable_format(path.suffix)
    if name is None:
        raise InputError(
            f"{path} can't be written: use one of {', '.join(sorted(WRITABLE_SUFFIXES))}, "
            f"got {path.suffix or 'no suffix'}"
        )
    if loss := what_is_lost(picture, name):
        raise InputError(f"{path} can't be written: {loss}; use {lossless_suffix(picture)} instead")
    with new_file(path) as temporary:
        _encode(temporary, picture, name, quality)


def _encode(path: Path, picture: Picture, name: str, quality: int) -> None:
    import pyvips

    file = raw_file(picture.pixels, picture.alpha)
    mapped = None if file is None else np.memmap(file, picture.dtype, "r")
    image = _with_metadata(_to_vips(picture, mapped), picture)
    if mapped is not None:
        # The encoder goes through the pixels once: those it has seen needn't stay in memory.
        image.set_progress(True)
        image.signal_connect("eval", lambda *_: release(mapped))
    keep = _KEEP_ICC | (_KEEP_EXIF if picture.exif else 0) | (_KEEP_XMP if picture.xmp else 0)
    try:
        if name == "PNG":
            image.pngsave(str(path), filter=0xF8, keep=keep)  # all filters, as photographs need
        elif name == "JPEG":
            small = picture.height * picture.width <= _OPTIMISED_PIXELS
            image.jpegsave(str(path), Q=quality, optimize_coding=small, keep=keep)
        elif name == "WebP":
            image.webpsave(
                str(path), Q=quality, lossless=quality == 100, exact=True, alpha_q=100, keep=keep
            )
        elif name == "AVIF":
            image.heifsave(
                str(path),
                compression="av1",
                Q=quality,
                lossless=quality == 100,
                bitdepth=picture.bits or 8,
                effort=_AVIF_EFFORT,
                subsample_mode="off",
                keep=keep,
            )
        else:
            image.tiffsave(
                str(path),
                compression="deflate",
                tile=picture.tiled,
                tile_width=_TIFF_TILE,
                tile_height=_TIFF_TILE,
                # Differences help whole numbers only; readers rarely know the one for floats.
                predictor="none" if picture.dtype.kind == "f" else "horizontal",
                bigtiff=_byte_count(picture) > _CLASSIC_TIFF_BYTES,
                keep=keep,
            )
    except pyvips.Error as error:
        reason = " ".join(str(error).split())
        raise OSError(f"encoding failed ({reason})") from error
    _finish(path, picture, name)


def _finish(path: Path, picture: Picture, name: str) -> None:
    """Put right what the encoder can't be told about resolutions, and EXIF in TIFF."""
    if name == "TIFF" and picture.exif:
        rows = picture.height // picture.pages
        _add_exif_to_tiff(path, _exif.resized(picture.exif, picture.width, rows))
    if name == "PNG" and picture.dpi is None:
        with path.open("r+b") as file:
            _png.forget_dpi(file)
    if name == "JPEG" and picture.dpi and not picture.exif:
        with path.open("r+b") as file:
            _jfif.add_resolution(file, picture.dpi)


def _add_exif_to_tiff(path: Path, exif: bytes) -> None:
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.write(bytes(end % 2))
        end += end % 2
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            addition = _exif.into_tiff(data, exif)
        if addition is not None:
            directory, width = addition
            file.seek(end)
            file.write(directory)
            file.seek(width)
            file.write(end.to_bytes(width, "little"))


def _byte_count(picture: Picture) -> int:
    return picture.pixels.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes)


def _to_vips(picture: Picture, mapped: np.memmap | None) -> pyvips.Image:
    import pyvips

    def wrap(array: np.ndarray, channels: int) -> pyvips.Image:
        data = np.ascontiguousarray(array).data
        kind = _VIPS_FORMATS[array.dtype.name]
        return pyvips.Image.new_from_memory(data, picture.width, picture.height, channels, kind)

    colours = picture.pixels.shape[2]
    if mapped is not None:
        kind = _VIPS_FORMATS[picture.dtype.name]
        size = (picture.width, picture.height, picture.channels)
        image = pyvips.Image.new_from_memory(mapped.data, *size, kind)
    else:
        image = wrap(picture.pixels, colours)
        if picture.alpha is not None:
            image = image.bandjoin(wrap(picture.alpha, 1))
    return image.copy(interpretation=_MODELS[picture.dtype.name, colours])


def _with_metadata(image: pyvips.Image, picture: Picture) -> pyvips.Image:
    import pyvips

    x, y = picture.dpi or (_DEFAULT_DPI, _DEFAULT_DPI)
    image = image.copy(xres=x / 25.4, yres=y / 25.4)
    # pyvips' annotations forget that blobs are bytes.
    set_blob: Callable[[int, str, bytes], None] = image.set_type  # pyright: ignore[reportAssignmentType]
    blob = pyvips.GValue.blob_type
    image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)
    if picture.icc and profile_fits(picture.icc, picture.pixels.shape[2]):
        set_blob(blob, "icc-profile-data", picture.icc)
    rows = picture.height // picture.pages
    if picture.exif:
        set_blob(blob, "exif-data", _exif.resized(picture.exif, picture.width, rows, picture.dpi))
    if picture.xmp:
        set_blob(blob, "xmp-data", _xmp.updated(picture.xmp, picture.width, rows))
    if picture.pages > 1:
        image.set_type(pyvips.GValue.gint_type, "page-height", rows)
    return image

"""Reading image files: the content decides what a file is, never its name.

libvips decodes straight into one array; BMP, which it leaves to others, is Pillow's.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from hspan.errors import InputError
from hspan.imaging import _exif, _png
from hspan.imaging._formats import FORMATS, HEADER_BYTES, recognise
from hspan.imaging._layers import open_layers
from hspan.imaging._picture import ImageInfo, Picture
from hspan.imaging._scratch import open_scratch

if TYPE_CHECKING:
    import pyvips
    from PIL import Image

_LOADERS = {
    "PNG": "pngload_source",
    "JPEG": "jpegload_source",
    "WebP": "webpload_source",
    "TIFF": "tiffload_source",
    "GIF": "gifload_source",
    "AVIF": "heifload_source",
}
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}
_MODELS = ("b-w", "grey16", "srgb", "rgb", "rgb16", "scrgb", "multiband")


def read_image(
    path: str | os.PathLike[str], *, pages: bool = False, scratch: Path | None = None
) -> Picture:
    """Read an image file.

    Palettes become RGB, 1-, 2- and 4-bit values 8-bit, deeper AVIF 16-bit; CMYK becomes sRGB
    through its profile. An orientation in EXIF is applied to the pixels.

    Args:
        path: PNG, JPEG, WebP, TIFF, AVIF, BMP, or a GIF of one frame, whatever its name says.
        pages: whether a TIFF may have several pages, all of one size and kind.
        scratch: a file for the decoded pixels, which are then mapped from there and never all in
            memory; BMP stays in memory.

    Returns:
        The picture; its arrays may be views of one array that holds pixels and alpha side by side.

    Raises:
        InputError: missing, a folder, empty, unreadable, no image, damaged or cut short, of several
            frames or pages, or of values that aren't 8- or 16-bit or single precision.
    """
    path = Path(path)
    with _opened(path) as (file, name):
        if name == "BMP":
            return _bmp_picture(path, file)
        if name == "DICOM":
            raise InputError(f"{path} is DICOM, which only `hspan upscale` reads: convert it first")
        image = _open_vips(path, file, name)
        count = _pages(file, image, name)
        if count > 1:
            if not pages or name != "TIFF":
                what = "pages" if name == "TIFF" else "frames"
                raise InputError(
                    f"{path} has {count} {what}: save them as single images first and give me those"
                )
            image = _open_pages(path, file, count)
        _check_values(path, image)
        exif = _exif_of(file, image, name)
        dpi = _dpi(file, image, name, exif)
        orientation = _orientation(image, name)
        try:
            image = _without_cmyk(image)
            icc = _get(image, "icc-profile-data")
            xmp = _get(image, "xmp-data")
            tiled = name == "TIFF" and bool(_get(image, "tile-width"))
            pixels = _decoded(image, scratch)
        except _vips_error() as error:
            raise _damaged(path, name, error) from error
    if count > 1:
        whole = [_turned(page, orientation) for page in np.split(pixels, count)]
        upright = pixels if orientation == 1 else np.concatenate(whole)
    else:
        upright = _turned(pixels, orientation)
    if dpi and orientation > 4:
        dpi = (dpi[1], dpi[0])
    channels = upright.shape[2]
    colours = channels - (channels in (2, 4))
    return Picture(
        pixels=upright[:, :, :colours],
        alpha=upright[:, :, -1] if channels > colours else None,
        icc=icc if icc and profile_fits(icc, colours) else None,
        exif=exif,
        dpi=dpi,
        format=name,
        xmp=xmp,
        bits=_few_bits(image),
        pages=count,
        tiled=tiled,
    )


def probe_image(path: str | os.PathLike[str]) -> ImageInfo:
    """Read a file's header only.

    Args:
        path: as for `read_image`; several frames or pages are no error here.

    Raises:
        InputError: missing, a folder, empty, unreadable, no image, a damaged header, values that
            `read_image` can't read, or measurements whose package isn't installed.
    """
    path = Path(path)
    with _opened(path) as (file, name):
        if layers := open_layers(path):
            layers.close()
            return layers.info
        if name == "BMP":
            image = _open_pillow(path, file)
            channels = len(_bmp_mode(image))
            return ImageInfo(image.width, image.height, channels, np.dtype(np.uint8), 1, name)
        image = _open_vips(path, file, name)
        _check_values(path, image)
        width, height = image.width, image.height
        if _orientation(image, name) > 4:
            width, height = height, width
        return ImageInfo(
            width=width,
            height=height,
            channels=image.bands - (image.interpretation == "cmyk"),
            dtype=np.dtype(_DTYPES[str(image.format)]),
            pages=_pages(file, image, name),
            format=name,
            bits=_few_bits(image),
        )


def profile_fits(icc: bytes, colours: int) -> bool:
    """Whether a profile is for images of this many colours; readers reject it otherwise."""
    return icc[16:20] == (b"GRAY" if colours == 1 else b"RGB ")


@contextmanager
def _opened(path: Path) -> Generator[tuple[IO[bytes], str]]:
    """The file, unbuffered and at its beginning, and its format.

    libvips reads through the same descriptor, and so from the same position: whoever moves it in
    between puts it back.
    """
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        raise InputError(f"{path} doesn't exist") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder, not an image file") from None
    except OSError as error:
        if path.is_dir():  # Windows calls it a lack of permission
            raise InputError(f"{path} is a folder, not an image file") from None
        raise InputError(f"{path} can't be read: {error.strerror or error}") from None
    with file:
        header = file.read(HEADER_BYTES) or b""
        file.seek(0)
        name = recognise(header)
        if not header:
            raise InputError(f"{path} is empty (0 bytes)")
        if name == "HEIC":
            raise InputError(
                f"{path} is HEIC, which can't be decoded here: save it as JPEG or PNG first"
            )
        if name is None:
            *most, last = FORMATS
            raise InputError(
                f"{path} isn't an image that I know: its content is neither {', '.join(most)} "
                f"nor {last}, whatever its name says"
            )
        yield file, name


def _vips_error() -> type[Exception]:
    import pyvips

    return pyvips.Error


def _damaged(path: Path, name: str, error: Exception) -> InputError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else "no reason given"
    return InputError(
        f"{path} is a damaged, incomplete or unusual {name} file ({reason}): get it again or save "
        "it anew"
    )


def _open_vips(path: Path, file: IO[bytes], name: str) -> pyvips.Image:
    import pyvips

    # A source, not a name: no name is misread, and nothing stale comes out of a cache.
    source = pyvips.Source.new_from_descriptor(file.fileno())
    # Without "unlimited", TIFFs of one long strip fail.
    options: dict[str, Any] = {"unlimited": True} if name == "TIFF" else {}
    try:
        return pyvips.Operation.call(
            _LOADERS[name], source, access="sequential", fail_on="error", **options
        )
    except pyvips.Error as error:
        raise _damaged(path, name, error) from error


def _open_pages(path: Path, file: IO[bytes], count: int) -> pyvips.Image:
    """All pages below one another."""
    import pyvips

    source = pyvips.Source.new_from_descriptor(file.fileno())
    try:
        return pyvips.Operation.call(
            "tiffload_source", source, n=count, access="sequential", fail_on="error", unlimited=True
        )
    except pyvips.Error as error:
        if "not the same" in str(error) or "differ" in str(error):
            raise InputError(
                f"{path} has {count} pages of different sizes or kinds: save them as single images "
                "first and give me those"
            ) from error
        raise _damaged(path, "TIFF", error) from error


def _few_bits(image: pyvips.Image) -> int:
    """Bits per channel where fewer than 16 stand in 16; else 0."""
    bits = _get(image, "bits-per-sample") or 0
    return bits if str(image.format) == "ushort" and 8 < bits < 16 else 0


def _check_values(path: Path, image: pyvips.Image) -> None:
    if image.format not in _DTYPES:
        raise InputError(
            f"{path} holds values of type {image.format}: save it with 8 or 16 bits per channel "
            "or in single precision"
        )
    if image.interpretation == "cmyk":
        known = image.bands in (4, 5) and image.format != "float"
    else:
        known = image.interpretation in _MODELS and image.bands in (1, 2, 3, 4)
    if not known:
        raise InputError(
            f"{path} has {image.bands} channels of kind {image.interpretation}: save it as grey or "
            "RGB, with or without transparency"
        )


def _without_cmyk(image: pyvips.Image) -> pyvips.Image:
    """Through the embedded profile, or a generic one where there is none, to sRGB."""
    if image.interpretation != "cmyk":
        return image
    return image.icc_transform(
        "srgb",
        embedded=True,
        input_profile="cmyk",
        intent="relative",
        black_point_compensation=True,
        depth=16 if image.format == "ushort" else 8,
    )


def _decoded(image: pyvips.Image, scratch: Path | None) -> np.ndarray:
    dtype = np.dtype(_DTYPES[str(image.format)])
    shape = (image.height, image.width, image.bands)
    if scratch is None:
        return np.ndarray(buffer=image.write_to_memory(), dtype=dtype, shape=shape)
    image.rawsave(str(scratch))
    return open_scratch(scratch, shape, dtype)


def _get(image: pyvips.Image, field: str) -> Any:
    return image.get(field) if image.get_typeof(field) else None


def _pages(file: IO[bytes], image: pyvips.Image, name: str) -> int:
    if name == "PNG":
        return _png.header(file).frames
    return _get(image, "n-pages") or 1


def _orientation(image: pyvips.Image, name: str) -> int:
    """The EXIF code, 1 upright; AVIF turns its pixels itself."""
    code = 1 if name == "AVIF" else _get(image, "orientation")
    return code if code in range(1, 9) else 1


def _exif_of(file: IO[bytes], image: pyvips.Image, name: str) -> bytes | None:
    if name == "TIFF":
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _exif.from_tiff(data)
    blob = _get(image, "exif-data")
    return _exif.upright(blob) if blob else None


def _dpi(
    file: IO[bytes], image: pyvips.Image, name: str, exif: bytes | None
) -> tuple[float, float] | None:
    if name == "PNG":
        found = _png.header(file).dpi
    elif name in ("JPEG", "TIFF") and _get(image, "resolution-unit"):
        found = (image.xres * 25.4, image.yres * 25.4)
    else:
        found = None
    if found is None and exif:
        found = _exif.resolution(exif)
    if found is None:
        return None
    # Files count whole pixels per metre or centimetre: 300 comes back as 299.9994.
    near = (round(found[0]), round(found[1]))
    close = max(abs(found[0] - near[0]), abs(found[1] - near[1])) < 0.02
    return (float(near[0]), float(near[1])) if close else found


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation; the first row and column of the file are 0th row and column."""
    if orientation == 1:
        return pixels
    if orientation > 4:  # 5 to 8 name the file's rows as columns
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels if isinstance(pixels, np.memmap) else np.ascontiguousarray(pixels)


def _open_pillow(path: Path, file: IO[bytes]) -> Image.Image:
    from PIL import Image

    try:
        return Image.open(file, formats=["BMP"])
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise _damaged(path, "BMP", error) from error


def _bmp_mode(image: Image.Image) -> str:
    return {"1": "L", "L": "L", "RGBA": "RGBA"}.get(image.mode, "RGB")


def _bmp_picture(path: Path, file: IO[bytes]) -> Picture:
    image = _open_pillow(path, file)
    try:
        pixels = np.array(image.convert(_bmp_mode(image)))
    except (OSError, ValueError) as error:
        raise _damaged(path, "BMP", error) from error
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return Picture(
        pixels=pixels[:, :, :3],
        alpha=pixels[:, :, 3] if pixels.shape[2] == 4 else None,
        dpi=image.info.get("dpi"),
        format="BMP",
    )

"""The file formats: how to recognise them, and what each can hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hspan.imaging._picture import ImageInfo, Picture


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        suffixes: lower case, the usual one first.
        dtypes: that it can be written with; empty if it is only read.
        alpha: whether alpha can be written.
        max_side: pixels, of either side.
    """

    suffixes: tuple[str, ...]
    dtypes: tuple[str, ...] = ()
    alpha: bool = False
    max_side: int = 2**31 - 1


FORMATS = {
    "PNG": Format((".png",), ("uint8", "uint16"), alpha=True),
    "JPEG": Format((".jpg", ".jpeg", ".jpe", ".jfif"), ("uint8",), max_side=65500),
    "WebP": Format((".webp",), ("uint8",), alpha=True, max_side=16383),
    "TIFF": Format((".tif", ".tiff"), ("uint8", "uint16", "float32"), alpha=True),
    "GIF": Format((".gif",)),
    "AVIF": Format((".avif",), ("uint8", "uint16"), alpha=True, max_side=16384),
    "BMP": Format((".bmp",)),
    "DICOM": Format((".dcm",), ("float32",), alpha=True),
}

IMAGE_SUFFIXES = frozenset(s for f in FORMATS.values() for s in f.suffixes)
WRITABLE_SUFFIXES = frozenset(s for f in FORMATS.values() if f.dtypes for s in f.suffixes)

HEADER_BYTES = 132  # enough for `recognise`


def recognise(header: bytes) -> str | None:
    """The format whose signature a file begins with; "HEIC" is recognised too, to say so."""
    if header.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if header.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if header[:4] == b"RIFF" and header[8:12] == b"WEBP":
        return "WebP"
    if header[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if header[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if header[4:8] == b"ftyp":
        brands = header[8 : min(int.from_bytes(header[:4], "big"), len(header))]
        return "AVIF" if b"avif" in brands or b"avis" in brands else "HEIC"
    if header[128:132] == b"DICM":
        return "DICOM"
    # BM alone begins many a text: the reserved bytes must be 0, the headers' size plausible.
    if header[:2] == b"BM" and header[6:10] == bytes(4) and 12 <= sum(header[14:15]) <= 124:
        return "BMP"
    return None


def images_in(folder: Path) -> list[Path]:
    """Files directly inside a folder whose suffix is an image's, by name; hidden ones left out.

    Raises:
        OSError: the folder can't be listed.
    """
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")  # "._x.png" is how macOS keeps attributes
        and path.is_file()
    )


def writable_format(suffix: str) -> str | None:
    """The format that a suffix is written in, or None."""
    for name, entry in FORMATS.items():
        if entry.dtypes and suffix.lower() in entry.suffixes:
            return name
    return None


def format_of(path: Path) -> str | None:
    """The format that a file of this name is written in, or None."""
    return writable_format(path.suffix)


def what_is_lost(image: Picture | ImageInfo, name: str) -> str | None:
    """Why a format can't hold an image without loss of depth, alpha or size, or None if it can."""
    entry = FORMATS[name]
    if image.dtype.name not in entry.dtypes:
        depth = "floating-point" if image.dtype.kind == "f" else f"{image.dtype.itemsize * 8}-bit"
        return f"{name} can't hold {depth} values"
    if image.channels in (2, 4) and not entry.alpha:
        return f"{name} can't hold transparency"
    if name == "AVIF" and image.dtype == "uint16" and image.bits not in (10, 12):
        return "AVIF can't hold 16-bit values"
    if "DICOM" in (name, image.format):
        return None if name == image.format else f"{name} and {image.format} don't mix"
    if image.pages > 1 and name != "TIFF":
        return f"{name} can't hold pages"
    rows = image.height // image.pages if isinstance(image, Picture) else image.height
    if max(image.width, rows) > entry.max_side:
        return f"{name} ends at {entry.max_side} pixels a side"
    return None


def lossless_suffix(image: Picture | ImageInfo) -> str:
    """The suffix that keeps everything of an image."""
    if image.format == "DICOM":
        return ".dcm"
    return ".png" if what_is_lost(image, "PNG") is None else ".tif"


def best_suffix(image: Picture | ImageInfo, wanted: str) -> str:
    """A suffix that keeps depth, alpha and size.

    Args:
        image: what is to be written, its final width and height included.
        wanted: a suffix with its dot, for example that of the input.

    Returns:
        `wanted` in lower case if its format can be written and holds the image; else ".png", or
        ".tif" for floating point.
    """
    name = writable_format(wanted)
    if name and what_is_lost(image, name) is None:
        return wanted.lower()
    return lossless_suffix(image)

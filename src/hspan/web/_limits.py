"""What the page accepts, and how errors are worded for somebody who doesn't know its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hspan.errors import InputError, UsageError
from hspan.imaging import ImageInfo, probe_image


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much one request may ask for.

    Attributes:
        megabytes: of an uploaded file.
        megapixels: of an LR image; of a ground truth as many times more as the scale demands.
        queue: requests that may wait; one is worked on at a time.
        explained: LR pixels per side of the part that is explained around a pixel; attention is
            asked about a whole image at once, and in float32.
    """

    megabytes: int = 64
    megapixels: float = 4.0
    queue: int = 16
    explained: int = 384

    def __post_init__(self) -> None:
        """Refuse limits that nothing could keep to."""
        if self.megabytes < 1 or self.megapixels <= 0 or self.queue < 1 or self.explained < 16:
            raise UsageError("limits must be positive")

    def check(self, path: Path, *, area: int = 1) -> ImageInfo:
        """Read a file's header and refuse what is too large, before anything is decoded.

        Args:
            path: an uploaded file.
            area: by how much more pixels are allowed: the scale squared for a ground truth.

        Raises:
            InputError: no image, or too large.
        """
        size = path.stat().st_size / 1e6
        if size > self.megabytes:
            raise InputError(
                f"{path} is of {size:.0f} MB, and this page takes {self.megabytes} MB: use the "
                "command `hspan upscale` for it"
            )
        info = probe_image(path)
        pixels = info.width * info.height / 1e6
        if pixels > self.megapixels * area:
            raise InputError(
                f"{path} has {info.width}×{info.height} pixels, {pixels:.1f} million, and this "
                f"page takes {self.megapixels * area:g} million: use the command `hspan upscale`"
            )
        return info


def worded(error: Exception, *paths: Path | None) -> str:
    """An error's sentence, with files called as the user calls them.

    Args:
        error: whose text may name files by their place on the server.
        paths: those files.
    """
    text = " ".join(str(error).split())
    for path in paths:
        if path is not None:
            text = text.replace(str(path), path.name).replace(f"{path.parent}/", "")
    return text

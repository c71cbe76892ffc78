"""The benchmark images on disk: found by name, and named by a hash of their bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from hspan.data import ImagePair, find_pairs
from hspan.errors import InputError
from hspan.evaluation._published import ALIASES
from hspan.imaging import Picture, crop_to_multiple, read_image, to_uint8, write_image


@dataclass(frozen=True)
class Dataset:
    """A folder of images.

    Attributes:
        name: as in the paper.
        folder: in a layout of ``hspan.data``.
        images: how many.
        sha256: over names and bytes of the HR files, and of the LR files where there are any.
    """

    name: str
    folder: Path
    images: int
    sha256: str

    def as_json(self) -> dict[str, object]:
        """Plain values, without the path, which says nothing elsewhere."""
        return {"images": self.images, "sha256": self.sha256}


def find_dataset(data: Path, name: str, scale: int, kind: str = "BI") -> Dataset:
    """Look a data set up, in any case and under its other usual names.

    Args:
        data: folder of the data sets.
        name: as in the paper.
        scale: ratio of HR to LR.
        kind: "BI" or "BD".

    Raises:
        InputError: it isn't there, or holds no images.
    """
    if not data.is_dir():
        raise InputError(f"{data}: no such folder of benchmarks")
    folders = sorted(path for path in data.iterdir() if path.is_dir())
    for folder in folders:
        if ALIASES.get(folder.name.lower(), folder.name).lower() == name.lower():
            pairs = find_pairs(folder, scale, kind)
            return Dataset(name, folder, len(pairs), _digest(pairs))
    found = ", ".join(path.name for path in folders) or "no folder"
    raise InputError(f"{data}: no folder {name}; found {found}")


def find_datasets(
    data: Path, names: tuple[str, ...], scale: int, kind: str = "BI"
) -> tuple[list[Dataset], list[str]]:
    """Look several up.

    Returns:
        Those that are there, and the names of those that aren't.

    Raises:
        InputError: none of them is there.
    """
    found: list[Dataset] = []
    missing: list[str] = []
    for name in names:
        try:
            found.append(find_dataset(data, name, scale, kind))
        except InputError:
            missing.append(name)
    if not found:
        find_dataset(data, names[0], scale, kind)  # raises, and says what is there
    return found, missing


def fingerprint(folder: Path, scale: int, kind: str = "BI") -> str:
    """A hash of the names and sizes of a folder's images: quick also for many gigabytes."""
    digest = hashlib.sha256()
    for pair in find_pairs(folder, scale, kind):
        for path in (pair.hr, pair.lr):
            if path is not None:
                digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
    return digest.hexdigest()


def crop_images(dataset: Dataset, side: int, scale: int, parent: Path) -> Path:
    """Write the middle of every HR image, once.

    Args:
        dataset: the images; LR files beside them aren't used.
        side: HR pixels per side, fewer where the image has fewer.
        scale: to a multiple of which images are cropped.
        parent: where the folder of crops goes.

    Returns:
        The folder.
    """
    folder = parent / f"{dataset.name}-{side}-{dataset.sha256[:8]}"
    for pair in find_pairs(dataset.folder, scale):
        target = folder / f"{pair.name}.png"
        if not target.exists():
            pixels = to_uint8(read_image(pair.hr).pixels)
            top, left = (max(0, (length - side) // 2) for length in pixels.shape[:2])
            folder.mkdir(parents=True, exist_ok=True)
            middle = pixels[top : top + side, left : left + side]
            write_image(target, Picture(pixels=crop_to_multiple(middle, scale)))
    return folder


def _digest(pairs: list[ImagePair]) -> str:
    digest = hashlib.sha256()
    for pair in pairs:
        for path in (pair.hr, pair.lr):
            if path is not None:
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()

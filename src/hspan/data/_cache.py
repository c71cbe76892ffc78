"""Every image decoded and reduced once, kept on disk as raw bytes that training maps into memory.

A cache is a folder with three files: ``hr.u8`` and ``lr.u8``, the pixels of all images one after
another (H×W×3, 8-bit RGB), and ``index.json``, which says where each image begins. Its name is a
hash of everything that its contents depend on, so that it is never stale and never asked about.

The work is done by threads rather than processes: decoders and array operations release the
interpreter lock, and nothing needs to be importable from, or guarded in, the user's script.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np

from hspan._version import __version__
from hspan.data._layout import ImagePair, find_pairs
from hspan.data._read import load_pair
from hspan.errors import InputError

_FORMAT = 1  # to be raised when files of an older version can't be used


@dataclass(frozen=True)
class CachedImage:
    """One image of a cache.

    Attributes:
        name: as in its ``ImagePair``.
        hr_start: offset of its first HR byte.
        lr_start: offset of its first LR byte.
        height: rows of the LR image; the HR image has ``scale`` times as many.
        width: columns of the LR image.
    """

    name: str
    hr_start: int
    lr_start: int
    height: int
    width: int


@dataclass(frozen=True)
class ImageCache:
    """Decoded images on disk.

    Attributes:
        folder: where ``hr.u8``, ``lr.u8`` and ``index.json`` are.
        scale: ratio of HR to LR.
        kind: degradation, "BI" or "BD".
        images: in natural order of their names.
        skipped: name of each file that couldn't be used, with the reason.
        digest: SHA-256 of all HR and LR pixels in order: names the training data exactly.
    """

    folder: Path
    scale: int
    kind: str
    images: tuple[CachedImage, ...]
    skipped: dict[str, str]
    digest: str

    def smaller_than(self, patch: int) -> list[str]:
        """Names of the images whose LR version is smaller than a patch of that side."""
        return [image.name for image in self.images if min(image.height, image.width) < patch]

    def open_hr(self) -> np.ndarray:
        """Map all HR bytes into memory: uint8, one dimension, read only."""
        return np.asarray(np.memmap(self.folder / "hr.u8", np.uint8, "r"))

    def open_lr(self) -> np.ndarray:
        """Map all LR bytes into memory: uint8, one dimension, read only."""
        return np.asarray(np.memmap(self.folder / "lr.u8", np.uint8, "r"))


def default_cache_folder() -> Path:
    """Where caches go unless told otherwise: ``$XDG_CACHE_HOME/hspan`` or ``~/.cache/hspan``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hspan"


def build_cache(
    folder: str | Path,
    scale: int,
    kind: str = "BI",
    *,
    sizes: Sequence[float] = (1.0,),
    cache_folder: str | Path | None = None,
    report: Callable[[int, int], None] | None = None,
) -> ImageCache:
    """Decode a folder of images, make its LR images, and keep both; or open what is kept already.

    HR images are cropped to a multiple of ``scale``, grey ones replicated to three channels, more
    than 8 bits rounded to 8, transparency dropped. LR images that the folder has are used as they
    are. Files that can't be read are left out and listed in ``skipped``.

    Args:
        folder: images in a layout that ``find_pairs`` knows.
        scale: ratio of HR to LR.
        kind: degradation, "BI" or "BD".
        sizes: sizes that every image is kept in, relative to its own, at most 1; images below 1
            are named after theirs, such as ``zebra@0.6``.
        cache_folder: parent of all caches; None is ``default_cache_folder()``.
        report: called with the number of images done and in all, while building.

    Raises:
        InputError: the folder has no usable image, or the cache can't be written.
        UsageError: unknown kind.
    """
    versions = [_Version(pair, size) for pair in find_pairs(folder, scale, kind) for size in sizes]
    parent = Path(cache_folder) if cache_folder else default_cache_folder()
    target = parent / f"{Path(folder).resolve().name}-x{scale}-{kind}-{_key(versions, scale, kind)}"
    if not (target / "index.json").exists():
        try:
            _build(versions, scale, kind, target, report)
        except OSError as error:
            raise InputError(
                f"can't write the image cache {target}: {error.strerror or error}; "
                "choose another place with data.cache=FOLDER"
            ) from error
    cache = _open(target)
    if not cache.images:
        name, reason = next(iter(cache.skipped.items()))
        raise InputError(f"{folder}: no usable image ({name}: {reason})")
    return cache


@dataclass(frozen=True)
class _Version:
    """An image in one of its sizes."""

    pair: ImagePair
    size: float

    @property
    def name(self) -> str:
        return self.pair.name if self.size == 1 else f"{self.pair.name}@{self.size:g}"


def _key(versions: list[_Version], scale: int, kind: str) -> str:
    """Hash of whatever decides the pixels of a cache."""
    files: list[tuple[str, int, int, float] | None] = []
    for version in versions:
        for path in (version.pair.hr, version.pair.lr):
            status = path.stat() if path else None
            files.append(status and (str(path), status.st_size, status.st_mtime_ns, version.size))
    parts = json.dumps([_FORMAT, __version__, scale, kind, files])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def _build(
    versions: list[_Version],
    scale: int,
    kind: str,
    target: Path,
    report: Callable[[int, int], None] | None,
) -> None:
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    unfinished.mkdir(parents=True)
    try:
        with (
            (unfinished / "hr.u8").open("wb") as hr_file,
            (unfinished / "lr.u8").open("wb") as lr_file,
        ):
            index = _write(versions, scale, kind, hr_file, lr_file, report)
        (unfinished / "index.json").write_text(json.dumps(index), encoding="utf-8")
        try:
            unfinished.replace(target)
        except OSError:
            if not (target / "index.json").exists():  # else another process was faster: use its own
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(
    versions: list[_Version],
    scale: int,
    kind: str,
    hr_file: IO[bytes],
    lr_file: IO[bytes],
    report: Callable[[int, int], None] | None,
) -> dict[str, object]:
    images: list[CachedImage] = []
    skipped: dict[str, str] = {}
    digest = hashlib.sha256()
    for done, (version, result) in enumerate(_load_all(versions, scale, kind), start=1):
        if isinstance(result, str):
            skipped[version.pair.hr.name] = result
        else:
            hr, lr = result
            height, width = lr.shape[:2]
            images.append(CachedImage(version.name, hr_file.tell(), lr_file.tell(), height, width))
            for array, file in ((hr, hr_file), (lr, lr_file)):
                data = array.tobytes()
                digest.update(data)
                file.write(data)
        if report:
            report(done, len(versions))
    return {
        "scale": scale,
        "kind": kind,
        "images": [asdict(image) for image in images],
        "skipped": skipped,
        "digest": digest.hexdigest(),
    }


def _load_all(
    versions: list[_Version], scale: int, kind: str
) -> Iterator[tuple[_Version, tuple[np.ndarray, np.ndarray] | str]]:
    """Load in parallel, yield in order; a reason stands in for a file that can't be used."""

    def load(version: _Version) -> tuple[np.ndarray, np.ndarray] | str:
        try:
            return load_pair(version.pair, scale, kind, version.size)
        except InputError as error:
            return str(error)

    workers = os.cpu_count() or 1
    ahead = 4 * workers  # images in memory at a time
    with ThreadPoolExecutor(workers) as pool:
        waiting = [(version, pool.submit(load, version)) for version in versions[:ahead]]
        for following in [*versions[ahead:], *[None] * len(waiting)]:
            version, future = waiting.pop(0)
            yield version, future.result()
            if following:
                waiting.append((following, pool.submit(load, following)))


def _open(folder: Path) -> ImageCache:
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    index["images"] = tuple(CachedImage(**image) for image in index["images"])
    return ImageCache(folder=folder, **index)

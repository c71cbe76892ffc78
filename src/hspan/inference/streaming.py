"""Images larger than memory: from disk to disk, and where they stood after an interruption.

Everything lives in a hidden folder beside the output until that is complete: the decoded source,
the finished part of the result, and what is finished (``_checkpoint``). A later run with the same
input and settings goes on from there and ends with the same bytes as one undisturbed run; with
others it begins anew. The output is encoded from the finished pixels and appears under its name in
one step.

What is the same is decided by the content of the input, the weights, and everything that the
numbers depend on. The number of threads isn't among it: sums within a thread's share may differ in
the last bit of float32, which rounding to 8 or 16 bits hides but for rare ties.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Generator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import IO

import torch

from hspan._version import __version__
from hspan._whole_files import new_file
from hspan.errors import HspanError, InputError
from hspan.imaging import (
    Layers,
    Picture,
    create_scratch,
    open_layers,
    open_scratch,
    read_image,
    write_image,
)
from hspan.inference._assembly import Progress
from hspan.inference._checkpoint import Checkpoint, save_json
from hspan.inference.upscaler import Report, Upscaler, combined, upscale_pages
from hspan.weights import weights_hash

_PIECE = 1 << 20  # bytes hashed at once
_LONGEST_NAME = 200  # file systems end at 255


def partial_folder(target: Path) -> Path:
    """Where an output that isn't complete is kept."""
    name = target.name
    if len(name.encode()) > _LONGEST_NAME:
        name = hashlib.sha256(name.encode()).hexdigest()
    return target.with_name(f".{name}.hspan-partial")


def stream_file(
    upscaler: Upscaler,
    source: Path,
    target: Path,
    *,
    quality: int = 95,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Upscale one file with neither source nor result in memory; go on where an earlier run ended.

    Needs room beside the output for the pixels of both, uncompressed.

    Args:
        upscaler: the network.
        source: the image.
        target: the file to write, in a folder that exists.
        quality: of JPEG, WebP and AVIF, 1 to 100.
        overwrite: whether a file that appears there meanwhile is replaced.
        progress: called with the number of finished tiles and of all tiles.

    Raises:
        InputError: the source can't be read or changes meanwhile, the target can't be written,
            there is no room, or another process is at work on the same target.
    """
    folder = partial_folder(target)
    layers = open_layers(source, target)
    with closing(layers) if layers else nullcontext(), _locked(folder):
        try:
            _begin(folder, _key(upscaler, source))
            if layers is None:
                results, report = _compute(upscaler, source, folder, progress)
            else:
                results, report = _compute_layers(upscaler, layers, folder, progress)
        except (HspanError, OSError) as error:
            if not _any_finished(folder):
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise InputError(
                    f"{target} can't be finished: {error.strerror or error}; once that is put "
                    "right, the same call goes on from here"
                ) from error
            raise
        if target.exists() and not overwrite:
            raise InputError(f"{target} has appeared meanwhile; --overwrite replaces it")
        if layers is None:
            write_image(target, results[0], quality=quality)
        else:
            with new_file(target) as temporary:
                layers.write(temporary, results)
        del results
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _compute(
    upscaler: Upscaler, source: Path, folder: Path, progress: Progress | None
) -> tuple[list[Picture], Report]:
    before = source.stat()
    picture = read_image(source, pages=True, scratch=folder / "source.raw")
    after = source.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise InputError(f"{source} changed while it was read: try again when it is finished")
    result = _result(picture, upscaler.scale, folder / "result.raw")
    checkpoints: list[Checkpoint] = []
    for page in range(picture.pages):
        place = folder / f"page-{page}"
        place.mkdir(exist_ok=True)
        checkpoints.append(Checkpoint(place))
    report = upscale_pages(upscaler, picture, result, checkpoints=checkpoints, progress=progress)
    return [result], report


def _compute_layers(
    upscaler: Upscaler, layers: Layers, folder: Path, progress: Progress | None
) -> tuple[list[Picture], Report]:
    """Every layer by itself: what it is decoded to goes when it is done, its result stays."""
    count = layers.info.pages
    results: list[Picture] = []
    reports: list[Report] = []
    for index in range(count):

        def advance(done: int, tiles: int, index: int = index) -> None:
            if progress is not None:
                progress(index * tiles + done, count * tiles)

        place = folder / f"page-{index}"
        place.mkdir(exist_ok=True)
        picture = layers.layer(index, place / "source.raw")
        result = _result(picture, upscaler.scale, place / "result.raw")
        checkpoint = Checkpoint(place)
        reports.append(
            upscale_pages(upscaler, picture, result, checkpoints=[checkpoint], progress=advance)
        )
        results.append(result)
        del picture
        (place / "source.raw").unlink()
    return results, combined(reports)


def _result(picture: Picture, scale: int, path: Path) -> Picture:
    """The SR picture in its file, as an earlier run left it if there was one."""
    colours = picture.pixels.shape[2]
    shape = (picture.height * scale, picture.width * scale, picture.channels)
    if path.exists():
        array = open_scratch(path, shape, picture.dtype)
    else:
        array = create_scratch(path, shape, picture.dtype)
    alpha = None if picture.alpha is None else array[:, :, colours]
    return picture.enlarged(array[:, :, :colours], alpha)


def _begin(folder: Path, key: dict[str, str]) -> None:
    """Keep what an earlier run with the same key left, and nothing else."""
    path = folder / "key.json"
    with suppress(OSError, ValueError):
        if json.loads(path.read_text()) == key:
            return
    for left in folder.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        elif left.name != _LOCK:
            left.unlink()
    save_json(path, key)


def _any_finished(folder: Path) -> bool:
    return any(Checkpoint(path.parent).rows for path in folder.glob("page-*/state.json"))


def _key(upscaler: Upscaler, source: Path) -> dict[str, str]:
    """All that decides the result's pixels, but for what the run decides itself (tiles)."""
    config = getattr(upscaler.model, "config", None)
    settings = asdict(config) if is_dataclass(config) and not isinstance(config, type) else {}
    return {
        "source": _content_hash(source),
        "network": type(upscaler.model).__name__,
        "config": json.dumps(settings, default=str, sort_keys=True),
        "weights": weights_hash(upscaler.model),
        "scale": str(upscaler.scale),
        "precision": upscaler.precision,
        "device": upscaler.device.type,
        "tile": str(upscaler.tile),
        "overlap": str(upscaler.overlap),
        "ensemble": str(upscaler.ensemble),
        "versions": f"hspan {__version__}, torch {torch.__version__}",
    }


def _content_hash(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    except FileNotFoundError:
        raise InputError(f"{path} doesn't exist") from None
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
    return digest.hexdigest()


_LOCK = "lock"


@contextmanager
def _locked(folder: Path) -> Generator[None, None, None]:
    """Hold a folder, made if need be, against other processes; a killed one holds nothing."""
    try:
        folder.mkdir(exist_ok=True)
        file = (folder / _LOCK).open("w")
    except OSError as error:
        raise InputError(f"can't write into {folder}: {error.strerror or error}") from error
    with file:
        if not _lock(file):
            raise InputError(f"another process is at work on {folder}: wait for it to end")
        yield


def _lock(file: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows refuses a second opening by itself where it matters
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

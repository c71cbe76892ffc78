"""Upscaling image files: what goes where, settled before anything is computed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from hspan.errors import HspanError, InputError, UsageError
from hspan.hardware import available_ram
from hspan.imaging import (
    WRITABLE_SUFFIXES,
    ImageInfo,
    Picture,
    best_suffix,
    probe_image,
    read_image,
    write_image,
)
from hspan.inference._assembly import Progress
from hspan.inference.forecast import forecast_file
from hspan.inference.sources import Failure, Source, find_sources, identity
from hspan.inference.streaming import stream_file
from hspan.inference.upscaler import Report, Upscaler

MAX_PIXELS = 2**30  # of an input: beyond, a few kilobytes may claim to be a terabyte
_PROBING_THREADS = 8  # headers are waited for more than worked on


@dataclass(frozen=True)
class Job:
    """One file to upscale."""

    source: Path
    target: Path
    overwrite: bool = False


def plan_files(
    inputs: Sequence[Path],
    scale: int,
    *,
    out: Path | None = None,
    suffix: str | None = None,
    overwrite: bool = False,
    recursive: bool = False,
    allow_existing: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> tuple[list[Job], list[Failure]]:
    """Settle which files become which, reading no more than headers.

    Args:
        inputs: images, folders whose images are taken, and patterns (``sources.find_sources``). In
            a folder, results of an earlier run (the suffix after another image's name) are passed
            over.
        scale: of the network.
        out: a folder; or, for one input that isn't a folder, the file to write. A path that
            doesn't exist is a folder unless it ends in a suffix. None writes beside each input.
            Below it stand the folders that stood between a given folder and its images.
        suffix: between name and extension; None is ``_x2`` (with the scale).
        overwrite: whether a file may be replaced; inputs never are.
        recursive: whether folders are descended into.
        allow_existing: plan outputs that exist too, for a batch that decides later what to do
            about them.
        max_pixels: that an input may have, all its pages together.

    Returns:
        What can be done, in the order of the inputs, and what can't. The extension stays unless
        its format can't be written or can't hold the image (``imaging.best_suffix``).

    Raises:
        UsageError: the inputs and ``out`` don't go together, or two inputs would become one file.
    """
    suffix = output_suffix(suffix, scale)
    target_file = _target_file(inputs, out)
    found, failures = find_sources(inputs, recursive=recursive, leave_out=out)
    if out is None and suffix:
        found = _without_results(found, suffix, {p for p in inputs if not p.is_dir()})

    def settle(source: Source) -> Path | str:
        try:
            info = check_source(source.path, max_pixels)
            if target_file is None:
                return _target(source, info, out, suffix, scale)
            _check_holds(source.path, info, target_file, scale)
            return target_file
        except HspanError as error:
            return str(error)

    with ThreadPoolExecutor(_PROBING_THREADS) as pool:
        targets = list(pool.map(settle, found))
    jobs: list[Job] = []
    for source, target in zip(found, targets, strict=True):
        if isinstance(target, Path):
            jobs.append(Job(source.path, target, overwrite))
        else:
            failures.append(Failure(source.path, target))
    _check_distinct(jobs)
    return _without_conflicts(
        jobs, [s.path for s in found], failures, target_file is not None, allow_existing
    )


def _without_conflicts(
    jobs: list[Job],
    sources: list[Path],
    failures: list[Failure],
    named: bool,
    allow_existing: bool,
) -> tuple[list[Job], list[Failure]]:
    """Leave out jobs that would replace an input or, unasked, anything else."""
    originals = {identity(source): source for source in sources}
    linked = {_inode(source): source for source in sources}
    linked.pop(None, None)
    possible: list[Job] = []
    for job in jobs:
        source, target = job.source, job.target
        try:
            exists = _exists(target)
        except OSError as error:
            failures.append(Failure(source, f"{source}: {target}: {error.strerror or error}"))
            continue
        original = originals.get(identity(target))
        if original is None and exists and not target.is_dir():
            original = linked.get(_inode(target))  # hard links
        if original is not None and named:
            raise UsageError(f"{target} is the input itself: name another output")
        if original is not None:
            failures.append(Failure(source, f"{source}: the output would replace {original}"))
        elif target.is_dir():
            failures.append(Failure(source, f"{source}: {target} is a folder", target))
        elif exists and not job.overwrite and not allow_existing:
            failures.append(Failure(source, f"{source}: {exists_already(target)}", target))
        else:
            possible.append(job)
    return possible, failures


def _exists(path: Path) -> bool:
    """Whether the name is taken; raises OSError where it can't be one, as when it is too long."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def output_suffix(given: str | None, scale: int) -> str:
    """What stands between an output's name and extension: ``_x2`` (with the scale) unless given.

    Raises:
        UsageError: it would lead into another folder.
    """
    if given is None:
        return f"_x{scale}"
    if Path(f"a{given}b").name != f"a{given}b" or "\0" in given:
        raise UsageError(f"the suffix {given!r} would lead into another folder")
    return given


def exists_already(target: Path) -> str:
    """Why a job can't be done whose output is there."""
    return f"{target} exists already; --overwrite replaces it"


def check_source(path: Path, max_pixels: int = MAX_PIXELS) -> ImageInfo:
    """Read a header, and believe it only within bounds.

    Raises:
        InputError: as ``probe_image``; or the image is said to have more pixels.
    """
    info = probe_image(path)
    pixels = info.width * info.height * max(info.pages, 1)
    if pixels > max_pixels:
        raise InputError(
            f"{path}: its header promises {info.width}×{info.height} pixels"
            f"{f' on {info.pages} pages' if info.pages > 1 else ''}, more than the limit of "
            f"{max_pixels}; if that is true, allow it with --max-pixels {pixels}"
        )
    return info


def read_source(path: Path) -> Picture:
    """Read an image that fits into memory and stays the same meanwhile.

    Raises:
        InputError: as ``read_image``; or too large for the free memory, or changed.
    """
    before = _state(path)
    info = probe_image(path)
    size = info.width * info.height * info.pages * info.channels * info.dtype.itemsize
    if size > (free := available_ram()):
        raise InputError(
            f"{path} takes {size / 1e9:.1f} GB when decoded, and {free / 1e9:.1f} GB are free"
        )
    picture = read_image(path, pages=True)
    if (after := _state(path)) is not None and before is not None and after != before:
        raise InputError(f"{path} was changed while it was read: try it again")
    return picture


def _state(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file's content does; None if it isn't there (any more)."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def prepare_folder(folder: Path) -> None:
    """Make sure that files can be written into a folder: better now than after the work.

    Raises:
        InputError: they can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise InputError(f"can't write into {folder}: {reason or error}") from error


def upscale_file(
    upscaler: Upscaler, job: Job, *, quality: int = 95, progress: Progress | None = None
) -> Report:
    """Upscale one file, keeping container, depth, alpha, colour profile, EXIF and resolution.

    The output appears under its name only when it is complete. Large images, and those that take
    long, are streamed from disk to disk and resumable (``stream_file``).

    Args:
        upscaler: the network.
        job: from ``plan_files``.
        quality: of JPEG and WebP, 1 to 100.
        progress: called with the number of finished tiles and of all tiles.

    Raises:
        InputError: the source can't be read or the target can't be written.
    """
    folder = job.target.parent
    prepare_folder(folder)
    forecast = forecast_file(upscaler, job.source, job.target, timed=False)
    if forecast.streamed:
        return stream_file(
            upscaler,
            job.source,
            job.target,
            quality=quality,
            overwrite=job.overwrite,
            progress=progress,
        )
    picture = read_source(job.source)
    result, report = upscaler.upscale_picture(picture, folder=folder, progress=progress)
    if job.target.exists() and not job.overwrite:
        raise InputError(f"{job.target} has appeared meanwhile; --overwrite replaces it")
    write_image(job.target, result, quality=quality)
    return report


def _target_file(inputs: Sequence[Path], out: Path | None) -> Path | None:
    """``out`` if it means a file."""
    if out is None or out.is_dir() or (not out.suffix and not out.is_file()):
        return None
    if len(inputs) == 1 and not inputs[0].is_dir():
        if out.suffix.lower() not in WRITABLE_SUFFIXES:
            known = ", ".join(sorted(WRITABLE_SUFFIXES))
            raise UsageError(f"can't write {out}: the name must end in one of {known}")
        return out
    if out.is_file():
        raise UsageError(f"{out} is a file: several inputs need a folder to go to")
    return None


def _without_results(found: list[Source], suffix: str, named: set[Path]) -> list[Source]:
    """Leave out what an earlier run wrote beside its inputs, unless it is given by name."""
    stems = {(source.path.parent, source.path.stem) for source in found}
    return [
        source
        for source in found
        if source.path in named
        or not source.path.stem.endswith(suffix)
        or (source.path.parent, source.path.stem.removesuffix(suffix)) not in stems
    ]


def _target(source: Source, info: ImageInfo, out: Path | None, suffix: str, scale: int) -> Path:
    path = source.path
    name = f"{path.stem}{suffix}{_extension(path, best_suffix(_grown(info, scale), path.suffix))}"
    return out / source.below / name if out else path.parent / name


def _grown(info: ImageInfo, scale: int) -> ImageInfo:
    return replace(info, width=info.width * scale, height=info.height * scale)


def _extension(source: Path, best: str) -> str:
    """The source's own spelling where it stays the same (``.JPG``)."""
    return source.suffix if source.suffix.lower() == best else best


def _check_holds(source: Path, info: ImageInfo, target: Path, scale: int) -> None:
    best = best_suffix(_grown(info, scale), target.suffix)
    if best != target.suffix.lower():
        raise InputError(
            f"{source}: {target.suffix} can't hold all of this image (its depth, transparency or "
            f"size); write it as {best}"
        )


def _check_distinct(jobs: Sequence[Job]) -> None:
    taken: dict[Path, Path] = {}
    for job in jobs:
        first = taken.setdefault(identity(job.target), job.source)
        if first != job.source:
            raise UsageError(
                f"{first} and {job.source} would both become {job.target}: upscale them into "
                "different folders"
            )

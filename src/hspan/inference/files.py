"""Upscaling image files: what goes where, settled before anything is computed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hspan.errors import HspanError, InputError, UsageError
from hspan.imaging import (
    IMAGE_SUFFIXES,
    WRITABLE_SUFFIXES,
    best_suffix,
    images_in,
    probe_image,
    read_image,
    write_image,
)
from hspan.inference._assembly import Progress
from hspan.inference.forecast import forecast_file
from hspan.inference.streaming import stream_file
from hspan.inference.upscaler import Report, Upscaler


@dataclass(frozen=True)
class Job:
    """One file to upscale."""

    source: Path
    target: Path
    overwrite: bool = False


@dataclass(frozen=True)
class Failure:
    """One input that can't be upscaled, and why, in one sentence that names it."""

    source: Path
    reason: str
    target: Path | None = None


def plan_files(
    inputs: Sequence[Path],
    scale: int,
    *,
    out: Path | None = None,
    suffix: str | None = None,
    overwrite: bool = False,
) -> tuple[list[Job], list[Failure]]:
    """Settle which files become which, reading no more than headers.

    Args:
        inputs: images, and folders whose images (directly inside) are taken. In a folder, results
            of an earlier run (the suffix after another image's name) are passed over.
        scale: of the network.
        out: a folder; or, for one input that isn't a folder, the file to write. A path that
            doesn't exist is a folder unless it ends in a suffix. None writes beside each input.
        suffix: between name and extension; None is ``_x2`` (with the scale).
        overwrite: whether a file may be replaced; inputs never are.

    Returns:
        What can be done, in the order of the inputs, and what can't. The extension stays unless
        its format can't be written or can't hold the image (``imaging.best_suffix``).

    Raises:
        UsageError: the inputs and ``out`` don't go together, or two inputs would become one file.
    """
    suffix = f"_x{scale}" if suffix is None else suffix
    if Path(f"a{suffix}b").name != f"a{suffix}b":
        raise UsageError(f"the suffix {suffix!r} would lead into another folder")
    target_file = _target_file(inputs, out)
    sources, failures = _expand(inputs, suffix if out is None else None)
    jobs: list[Job] = []
    for source in sources:
        try:
            target = target_file or _target(source, out, suffix, scale)
            if target_file is not None:
                _check_holds(source, target, scale)
        except HspanError as error:
            failures.append(Failure(source, str(error)))
            continue
        jobs.append(Job(source, target, overwrite))
    _check_distinct(jobs)
    originals = {_identity(source): source for source in sources}
    possible: list[Job] = []
    for job in jobs:
        source, target = job.source, job.target
        original = originals.get(_identity(target))
        if original is None and target.exists() and not target.is_dir():
            original = next((s for s in sources if target.samefile(s)), None)  # hard links
        if original is not None and target_file is not None:
            raise UsageError(f"{target} is the input itself: name another output")
        if original is not None:
            failures.append(Failure(source, f"{source}: the output would replace {original}"))
        elif target.is_dir():
            failures.append(Failure(source, f"{source}: {target} is a folder", target))
        elif target.exists() and not overwrite:
            reason = f"{source}: {target} exists already; --overwrite replaces it"
            failures.append(Failure(source, reason, target))
        else:
            possible.append(job)
    return possible, failures


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
    forecast = forecast_file(upscaler, job.source, job.target, timed=False)  # or refuse
    folder = job.target.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # better now than after the work
            pass
    except OSError as error:
        raise InputError(f"can't write into {folder}: {error.strerror or error}") from error
    if forecast.streamed:
        return stream_file(
            upscaler,
            job.source,
            job.target,
            quality=quality,
            overwrite=job.overwrite,
            progress=progress,
        )
    picture = read_image(job.source, pages=True)
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


def _expand(inputs: Sequence[Path], passed_over: str | None) -> tuple[list[Path], list[Failure]]:
    """Files, each once, folders replaced by their images."""
    sources: dict[Path, Path] = {}
    failures: list[Failure] = []
    for given in inputs:
        found: Iterable[Path] = [given]
        if given.is_dir():
            try:
                found = _images_in(given, passed_over)
            except OSError as error:
                reason = f"{given}: can't list the folder: {error.strerror or error}"
                failures.append(Failure(given, reason))
                continue
            if not found:
                kinds = ", ".join(sorted(IMAGE_SUFFIXES))
                failures.append(Failure(given, f"{given}: no images in this folder ({kinds})"))
        for source in found:
            sources.setdefault(_identity(source), source)
    return list(sources.values()), failures


def _images_in(folder: Path, passed_over: str | None) -> list[Path]:
    images = images_in(folder)
    stems = {path.stem for path in images}
    if not passed_over:
        return images
    return [
        path
        for path in images
        if not (path.stem.endswith(passed_over) and path.stem.removesuffix(passed_over) in stems)
    ]


def _target(source: Path, out: Path | None, suffix: str, scale: int) -> Path:
    info = probe_image(source)
    grown = replace(info, width=info.width * scale, height=info.height * scale)
    name = f"{source.stem}{suffix}{_extension(source, best_suffix(grown, source.suffix))}"
    return (out or source.parent) / name


def _extension(source: Path, best: str) -> str:
    """The source's own spelling where it stays the same (``.JPG``)."""
    return source.suffix if source.suffix.lower() == best else best


def _check_holds(source: Path, target: Path, scale: int) -> None:
    info = probe_image(source)
    grown = replace(info, width=info.width * scale, height=info.height * scale)
    best = best_suffix(grown, target.suffix)
    if best != target.suffix.lower():
        raise InputError(
            f"{source}: {target.suffix} can't hold all of this image (its depth, transparency or "
            f"size); write it as {best}"
        )


def _check_distinct(jobs: Sequence[Job]) -> None:
    taken: dict[Path, Path] = {}
    for job in jobs:
        first = taken.setdefault(_identity(job.target), job.source)
        if first != job.source:
            raise UsageError(
                f"{first} and {job.source} would both become {job.target}: upscale them into "
                "different folders"
            )


def _identity(path: Path) -> Path:
    """What tells files apart, whatever way they are named."""
    return Path(os.path.normcase(path.resolve()))

"""Which files a batch consists of: single files, folders, whole trees, patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hspan.imaging import IMAGE_SUFFIXES, images_in


@dataclass(frozen=True)
class Failure:
    """One input that can't be upscaled, and why, in one sentence that names it."""

    source: Path
    reason: str
    target: Path | None = None


@dataclass(frozen=True)
class Source:
    """A file, and where it stands below the folder that was given."""

    path: Path
    below: Path = Path()  # folders between the given one and the file


def find_sources(
    inputs: Sequence[Path], *, recursive: bool = False, leave_out: Path | None = None
) -> tuple[list[Source], list[Failure]]:
    """Replace folders and patterns by the images in them, each file once, by name.

    Args:
        inputs: files, folders, and patterns such as ``scans/**/*.png`` for shells that leave them
            as they are; a file or folder of exactly that name goes first. Files that a pattern
            matches stand below its part without wildcards.
        recursive: whether folders are descended into. Links to folders are followed, each folder
            is visited once, whatever leads back to it; hidden files and folders are left out.
        leave_out: a folder that isn't descended into: the one that results go to.

    Returns:
        The files in the order of the inputs, and the inputs that gave none.
    """
    sources: dict[Path, Source] = {}
    failures: list[Failure] = []
    for given in inputs:
        try:
            found = list(_expand(given, recursive, leave_out))
        except OSError as error:
            where = error.filename or given
            reason = f"{given}: can't list {where}: {error.strerror or error}"
            failures.append(Failure(given, reason))
            continue
        if not found:
            failures.append(Failure(given, _nothing_in(given)))
        for source in found:
            sources.setdefault(identity(source.path), source)
    return list(sources.values()), failures


def identity(path: Path) -> Path:
    """What tells files apart, whatever way they are named."""
    try:
        return Path(os.path.normcase(path.resolve()))
    except (OSError, RuntimeError):  # links that lead to themselves
        return Path(os.path.normcase(path.absolute()))


def _expand(given: Path, recursive: bool, leave_out: Path | None) -> Iterator[Source]:
    if given.is_dir():
        yield from _tree(given, leave_out) if recursive else map(Source, images_in(given))
    elif glob.has_magic(str(given)) and not os.path.lexists(given):
        fixed = Path(*_before_wildcards(given))
        for name in sorted(glob.iglob(str(given), recursive=True)):
            path = Path(name)
            if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                yield Source(path, path.parent.relative_to(fixed))
    else:
        yield Source(given)


def _tree(root: Path, leave_out: Path | None) -> Iterator[Source]:
    visited = {identity(leave_out)} if leave_out is not None else set[Path]()
    visited.discard(identity(root))

    def fail(error: OSError) -> None:
        raise error

    for folder, names, _ in os.walk(root, followlinks=True, onerror=fail):
        here = Path(folder)
        new: list[str] = []
        for name in sorted(names):
            real = identity(here / name)
            if not name.startswith(".") and real not in visited:
                visited.add(real)
                new.append(name)
        visited.add(identity(here))
        names[:] = new
        for path in images_in(here):
            yield Source(path, here.relative_to(root))


def _before_wildcards(pattern: Path) -> Iterator[str]:
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            return
        yield part


def _nothing_in(given: Path) -> str:
    kinds = ", ".join(sorted(IMAGE_SUFFIXES))
    if given.is_dir():
        return f"{given}: no images in this folder ({kinds})"
    return f"{given}: no images match this pattern ({kinds})"

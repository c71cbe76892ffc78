"""New files that appear whole or not at all: a temporary name in the same folder, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from hspan.errors import InputError


@contextmanager
def new_file(path: Path, *, suffix: str = ".part", parents: bool = False) -> Generator[Path]:
    """An empty file under a temporary name, moved to `path` if the block ends without an error.

    Args:
        path: a file of that name is replaced.
        suffix: of the temporary name, for writers that look at it. Programs that watch a folder
            for images shouldn't find a half of one, so it isn't that of `path` by itself.
        parents: make the folders above it that don't exist yet.

    Raises:
        InputError: the system refuses to write there, or did so within the block.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it")
    temporary = path.with_name(f".hspan-{secrets.token_hex(6)}{suffix}")
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        # Created here, so that a wrong folder is told from a failure to encode.
        temporary.touch(exist_ok=False)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file.

    Raises:
        InputError: the system refuses; what was there before is untouched.
    """
    with new_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str, *, parents: bool = False) -> None:
    """Write a file in UTF-8, where asked to with the folders above it.

    Raises:
        InputError: the system refuses; what was there before is untouched.
    """
    with new_file(path, parents=parents) as temporary:
        temporary.write_text(text, encoding="utf-8")

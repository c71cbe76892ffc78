"""New files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from hspan.errors import InputError


@contextmanager
def new_file(path: Path) -> Generator[Path, None, None]:
    """An empty file under a temporary name, moved to `path` if the block ends without an error.

    Raises:
        InputError: the system refuses to write there, or did so within the block.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file in it")
    temporary = path.with_name(f".hspan-{secrets.token_hex(6)}.part")
    try:
        # Created here, so that a wrong folder is told from a failure to encode.
        temporary.touch(exist_ok=False)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()

"""One image through standard input or output, as a part of a shell's pipe."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import IO

from hspan.errors import HspanError, InputError
from hspan.inference._assembly import Progress
from hspan.inference.files import MAX_PIXELS, Job, plan_files, upscale_file
from hspan.inference.upscaler import Report, Upscaler


def upscale_pipe(
    upscaler: Upscaler,
    source: Path | IO[bytes],
    target: Path | IO[bytes],
    *,
    overwrite: bool = False,
    quality: int = 95,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> Report:
    """Upscale one image from a file or stream to a file or stream.

    Streams pass through temporary files: formats are read and written out of order. Into a stream
    goes the input's format, or one that holds the image (``imaging.best_suffix``), and nothing at
    all unless the result is whole.

    Args:
        upscaler: the network.
        source: an image file, or a binary stream that is read to its end.
        target: the file to write, or a binary stream.
        overwrite: whether a file may be replaced.
        quality: of JPEG and WebP, 1 to 100.
        max_pixels: that the input may have.
        progress: called with the number of finished tiles and of all tiles.

    Raises:
        UsageError: ``target`` isn't the name of an image that can be written.
        InputError: the source can't be read or the target can't be written.
    """
    with tempfile.TemporaryDirectory(prefix="hspan-") as name:
        folder = Path(name)
        path, shown = source, str(source)
        try:
            if not isinstance(path, Path):
                path, shown = folder / "input", "standard input"
                with path.open("wb") as file:
                    shutil.copyfileobj(_stream(source), file)
            out = target if isinstance(target, Path) else folder / "out"
            jobs, failures = plan_files(
                [path], upscaler.scale, out=out, overwrite=overwrite, max_pixels=max_pixels
            )
            if failures:
                raise InputError(failures[0].reason)
            job = Job(path, jobs[0].target, overwrite)
            report = upscale_file(upscaler, job, quality=quality, progress=progress)
            if not isinstance(target, Path):
                with job.target.open("rb") as file:
                    shutil.copyfileobj(file, target)
                target.flush()
        except HspanError as error:
            raise type(error)(str(error).replace(str(path), shown)) from error
        except OSError as error:
            raise InputError(f"{shown}: the pipe broke ({error.strerror or error})") from error
    return report


def _stream(source: Path | IO[bytes]) -> IO[bytes]:
    assert not isinstance(source, Path)
    return source

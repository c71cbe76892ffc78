"""``hspan upscale``: image files in, image files out.

``--json`` prints one list on standard output, an object per input in the order of completion:

    input, output       paths; output is null where none could be named
    status              "done" or "failed"
    error               why it failed, one sentence; only of "failed"
    and of "done" only:
    seconds             reading and writing included
    lr_size, sr_size    [width, height] in pixels
    model, scale        the network
    precision           "fp32", "bf16" or "fp16"
    tile, tiles         LR pixels per axis of a tile's share (0: in one piece), number of tiles
    processed           the same in words, with the reason, as "in 6 tiles of 256, because ..."
    repeated_in_fp32    tiles that weren't finite in that precision
    resumed             tiles, in whole rows, that an interrupted run had finished

With ``--dry-run`` nothing is written, the status is "planned", and an object has, beside sizes and
tiles of a page as above:

    pages               of a TIFF
    streamed            whether it goes from disk to disk, resumable
    memory_bytes        what the process will hold at most
    disk_bytes          beside the output, until that is complete
    output_bytes        about
    seconds             of the network on this machine now, and of reading and writing
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hspan.cli._amounts import parse_bytes, parse_seconds
from hspan.errors import HspanError, UsageError

if TYPE_CHECKING:
    from hspan.inference import Job, Upscaler


def upscale(
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="INPUT", help="Images, or folders of images.", show_default=False),
    ] = None,
    inputs: Annotated[
        list[Path] | None,
        typer.Option(
            "-i", "--input", metavar="INPUT", help="The same as an option.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="A folder; or the file to write, for one image.",
            show_default="beside the input",
        ),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(
            "-s", "--scale", metavar="2|3|4", help="Factor.", show_default="the model's, or 2"
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option("-m", "-n", "--model", metavar="MODEL", help="A name or a file of weights."),
    ] = "hspan-light",
    tile: Annotated[
        str,
        typer.Option(
            "-t",
            "--tile",
            metavar="auto|0|N",
            help="LR pixels of a tile per axis; 0: the image in one piece.",
        ),
    ] = "auto",
    overlap: Annotated[
        str,
        typer.Option(
            metavar="auto|N",
            help="LR pixels of context around each tile; auto: as many as hide the seams.",
        ),
    ] = "auto",
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Mean over 8 flips and rotations: 8 times the work.")
    ] = False,
    device: Annotated[
        str, typer.Option("-d", "--device", metavar="D", help="auto, cpu, cuda, cuda:1, mps...")
    ] = "auto",
    precision: Annotated[str, typer.Option(metavar="P", help="auto, fp32, bf16 or fp16.")] = "auto",
    suffix: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Between name and extension.", show_default="_x2, by scale"
        ),
    ] = None,
    quality: Annotated[
        int, typer.Option(min=1, max=100, metavar="1-100", help="Of JPEG and WebP.")
    ] = 95,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that exist; never inputs.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what each file would take; write nothing."),
    ] = False,
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Main memory for the whole process, as 2G or 800M.",
            show_default="what is free",
        ),
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(
            "--max-time-per-image",
            metavar="TIME",
            help="Refuse files that would take longer, as 90s, 10m or 2h.",
            show_default="no limit",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a report as JSON on standard output.")
    ] = False,
) -> None:
    """Upscale images, keeping format, bit depth, transparency, colour profile and EXIF.

    A file that can't be upscaled is named on standard error, and the others are done (status 1).
    """
    given = [*(images or []), *(inputs or [])]
    if not given:
        raise UsageError("name at least one image or folder to upscale")
    size, context = _pixels(tile, "tile", "0 "), _pixels(overlap, "overlap", "")
    memory = None if max_memory is None else parse_bytes(max_memory)
    seconds = None if max_time is None else parse_seconds(max_time)

    from hspan.inference import Upscaler, plan_files

    upscaler = Upscaler(
        model,
        scale,
        device=device,
        precision=precision,
        tile=size,
        overlap=context,
        ensemble=ensemble,
        max_memory=memory,
        max_seconds=seconds,
    )
    jobs, failures = plan_files(given, upscaler.scale, out=out, suffix=suffix, overwrite=overwrite)
    results = [_failed(f.source, f.target, f.reason) for f in failures]
    for job in jobs:
        if dry_run:
            results.append(_forecast(upscaler, job, quiet=as_json))
        else:
            results.append(_run(upscaler, job, quality, quiet=as_json))
    if as_json:
        print(json.dumps(results, indent=2))
    if any(result["status"] == "failed" for result in results):
        raise typer.Exit(1)


def _pixels(text: str, name: str, least: str) -> int | str:
    if text == "auto" or text.isdecimal():
        return text if text == "auto" else int(text)
    raise UsageError(f"{name} must be auto, {least}or a number of pixels, got {text!r}")


def _forecast(upscaler: Upscaler, job: Job, *, quiet: bool) -> dict[str, Any]:
    from hspan.inference import forecast_file

    try:
        found = forecast_file(upscaler, job.source, job.target)
    except HspanError as error:
        return _failed(job.source, job.target, str(error))
    if not quiet:
        _print(f"{job.source} -> {job.target}  {found.summary}")
    return {
        "input": str(job.source),
        "output": str(job.target),
        "status": "planned",
        "lr_size": found.lr_size,
        "sr_size": found.sr_size,
        "pages": found.pages,
        "tile": found.plan.tile,
        "tiles": found.plan.tiles,
        "processed": found.plan.summary,
        "streamed": found.streamed,
        "memory_bytes": found.memory_bytes,
        "disk_bytes": found.disk_bytes,
        "output_bytes": found.output_bytes,
        "seconds": round(found.seconds, 3),
    }


def _run(upscaler: Upscaler, job: Job, quality: int, *, quiet: bool) -> dict[str, Any]:
    from hspan.inference import upscale_file

    begin = time.perf_counter()
    try:
        with _progress(job.source.name) as advance:
            report = upscale_file(upscaler, job, quality=quality, progress=advance)
    except HspanError as error:
        return _failed(job.source, job.target, str(error))
    except Exception as error:  # whatever happens to one file, the others are done
        reason = f"{job.source}: unexpected {type(error).__name__} ({error}); please report it"
        return _failed(job.source, job.target, reason)
    seconds = time.perf_counter() - begin
    if report.repeated_in_fp32:
        _complain(
            f"note: {job.source}: {report.repeated_in_fp32} of {report.tiles} tiles weren't finite "
            f"in {report.precision} and were computed again in fp32"
        )
    if not quiet:
        (w, h), (sr_w, sr_h) = report.lr_size, report.sr_size
        _print(
            f"{job.source} -> {job.target}  {w}x{h} -> {sr_w}x{sr_h}, {report.model}, "
            f"{report.precision}, {report.summary}, {seconds:.1f} s"
        )
    return {
        "input": str(job.source),
        "output": str(job.target),
        "status": "done",
        "seconds": round(seconds, 3),
        "lr_size": report.lr_size,
        "sr_size": report.sr_size,
        "model": report.model,
        "scale": report.scale,
        "precision": report.precision,
        "tile": report.tile,
        "tiles": report.tiles,
        "processed": report.summary,
        "repeated_in_fp32": report.repeated_in_fp32,
        "resumed": report.resumed,
    }


def _failed(source: Path, target: Path | None, reason: str) -> dict[str, Any]:
    sentence = " ".join(reason.split())
    named = sentence if str(source) in sentence else f"{source}: {sentence}"
    _complain(named)
    output = None if target is None else str(target)
    return {"input": str(source), "output": output, "status": "failed", "error": named}


@contextmanager
def _progress(name: str) -> Generator[Callable[[int, int], None] | None, None, None]:
    """A bar on standard error, if somebody is looking."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(name), total=None)
        begun = False

        def advance(done: int, tiles: int) -> None:
            nonlocal begun
            if not begun and done > 1:  # an earlier run's tiles say nothing of the time left
                bar.reset(task, completed=done, total=tiles)
            begun = True
            bar.update(task, completed=done, total=tiles)

        yield advance


def _complain(sentence: str) -> None:
    print(f"hspan: {sentence}", file=sys.stderr)


def _print(line: str) -> None:
    """Print names of files that the terminal's encoding doesn't know with escapes, not an error."""
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding))

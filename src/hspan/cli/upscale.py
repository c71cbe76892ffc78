"""``hspan upscale``: image files in, image files out.

``--json`` prints one list on standard output, an object per input that was reached, in the order of
the inputs, those that could not be tried first:

    input, output       paths; output is null where none could be named
    status              "done", "skipped" (the result was there) or "failed"
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

Videos have "frames" and "codec" instead of all from "precision" on, and aren't in manifests.

Exit status: 0, 1 (some input failed), 2 (the call is wrong); 130 after Ctrl-C and 143 after
SIGTERM, which finish the tile, and write what has gone through the network.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hspan.cli._amounts import parse_bytes, parse_seconds
from hspan.cli._batch_report import BatchReport, complain, image_bytes_out, is_stream
from hspan.cli._interruption import Interruption, interruptible
from hspan.cli._video import split_videos, upscale_videos
from hspan.errors import UsageError

if TYPE_CHECKING:
    from hspan.inference import Job, Manifest, Upscaler


def upscale(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Images, folders, patterns, videos; - is standard input.",
            show_default=False,
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "-i", "--input", metavar="INPUT", help="The same as an option.", show_default=False
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="A folder; or, for one image, the file to write, or - for standard output.",
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
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Descend into folders; OUT mirrors them.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace outputs that exist; never inputs.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out images whose output exists.")
    ] = False,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Remember what is done; the same call then goes on where it was interrupted.",
        ),
    ] = None,
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
    engine: Annotated[
        str, typer.Option(metavar="local|ray", help="ray: on a cluster; paths may be s3://...")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Of --engine ray.",
            show_default="one per GPU, or per processor",
        ),
    ] = None,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Refuse larger inputs.", show_default="2^30 (1.07 billion)"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a report as JSON on standard output.")
    ] = False,
) -> None:
    """Upscale images, keeping format, bit depth, transparency, colour profile and EXIF; and videos.

    A file that can't be upscaled is named on standard error, and the others are done (status 1).
    """
    words = [*(images or []), *(inputs or [])]
    if not words:
        raise UsageError("name at least one image or folder to upscale")
    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other: choose one")
    if engine not in ("local", "ray"):
        raise UsageError(f"engine must be local or ray, got {engine!r}")
    if engine == "local" and any("://" in word for word in [*words, out or ""]):
        raise UsageError("addresses such as s3://... need --engine ray")
    if engine == "ray" and dry_run:
        raise UsageError("--dry-run predicts for this machine: leave out --engine ray")
    piped = "-" in [*words, out]
    if piped and (len(words) > 1 or as_json or manifest or dry_run or engine == "ray"):
        raise UsageError(
            "standard input or output takes one image, without --json, --manifest, --dry-run or "
            "--engine"
        )
    options: dict[str, Any] = {
        "device": device,
        "precision": precision,
        "tile": _pixels(tile, "tile", "0 "),
        "overlap": _pixels(overlap, "overlap", ""),
        "ensemble": ensemble,
        "max_memory": None if max_memory is None else parse_bytes(max_memory),
        "max_seconds": None if max_time is None else parse_seconds(max_time),
    }

    from hspan._allocator import keep_memory
    from hspan.inference import MAX_PIXELS, Manifest, Upscaler, batch_settings, plan_files

    limit = max_pixels or MAX_PIXELS
    if engine == "ray":
        from hspan.cli._cluster import upscale_on_cluster

        upscale_on_cluster(
            words,
            out,
            model,
            scale,
            options,
            suffix=suffix,
            quality=quality,
            recursive=recursive,
            overwrite=overwrite,
            skip_existing=skip_existing,
            manifest=manifest,
            max_pixels=limit,
            workers=workers,
            as_json=as_json,
        )
        return
    upscaler = Upscaler(model, scale, **options)
    if upscaler.device.type == "cpu" and max_memory is None:
        keep_memory()  # which takes more of it
    given, place = [Path(word) for word in words], None if out is None else Path(out)
    if piped:
        _pipe(upscaler, given[0], place, overwrite=overwrite, quality=quality, max_pixels=limit)
        return
    videos, given = split_videos(given)
    if videos and dry_run:
        raise UsageError("--dry-run predicts images only: leave out the videos")
    jobs, failures = (
        plan_files(
            given,
            upscaler.scale,
            out=place,
            suffix=suffix,
            overwrite=overwrite,
            recursive=recursive,
            allow_existing=skip_existing or manifest is not None,
            max_pixels=limit,
        )
        if given
        else ([], [])
    )
    report = BatchReport(as_json)
    for failure in failures:
        report.plan_failed(failure)
    if dry_run:
        for job in jobs:
            report.forecast(upscaler, job)
        report.close()
        if report.failed:
            raise typer.Exit(1)
        return
    with ExitStack() as stack:
        kept = None
        if manifest is not None:
            kept = stack.enter_context(Manifest(manifest, batch_settings(upscaler, quality)))
            for failure in failures:
                kept.record_failure(failure.source, failure.reason)
        stop = stack.enter_context(interruptible())
        try:
            if jobs:
                _run(upscaler, jobs, report, stop, quality, kept, skip_existing)
            upscale_videos(
                upscaler,
                videos,
                place,
                report,
                stop,
                suffix=suffix,
                overwrite=overwrite,
                skip_existing=skip_existing,
            )
        finally:
            report.close()
    if stop():
        go_on = (
            "go on with the same call" if kept else "go on with the same call and --skip-existing"
        )
        complain(f"interrupted: {go_on}")
        raise typer.Exit(stop.status)
    if report.failed:
        raise typer.Exit(1)


def _pixels(text: str, name: str, least: str) -> int | str:
    if text == "auto" or text.isdecimal():
        return text if text == "auto" else int(text)
    raise UsageError(f"{name} must be auto, {least}or a number of pixels, got {text!r}")


def _run(
    upscaler: Upscaler,
    jobs: list[Job],
    report: BatchReport,
    stop: Interruption,
    quality: int,
    manifest: Manifest | None,
    skip_existing: bool,
) -> None:
    from hspan.inference import upscale_batch

    with report.progress(len(jobs)) as advance:

        def show(job: Job, done: int, tiles: int) -> None:
            if advance is not None:
                advance(job.source.name, done, tiles)

        outcomes = upscale_batch(
            upscaler,
            jobs,
            quality=quality,
            manifest=manifest,
            skip_existing=skip_existing,
            stop=stop,
            progress=show,
        )
        for outcome in outcomes:
            report.add(outcome)


def _pipe(
    upscaler: Upscaler,
    source: Path,
    out: Path | None,
    *,
    overwrite: bool,
    quality: int,
    max_pixels: int,
) -> None:
    from hspan.inference import upscale_pipe

    target = None if out is None or is_stream(out) else out
    if target is not None and (target.is_dir() or not target.suffix):
        raise UsageError(f"{target} is a folder: name the file that standard input becomes")
    upscale_pipe(
        upscaler,
        sys.stdin.buffer if is_stream(source) else source,
        target or image_bytes_out(),
        overwrite=overwrite,
        quality=quality,
        max_pixels=max_pixels,
    )

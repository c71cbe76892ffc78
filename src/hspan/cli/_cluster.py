"""``hspan upscale --engine ray``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import typer

from hspan.cli._batch_report import BatchReport, complain
from hspan.cli._interruption import interruptible
from hspan.errors import UsageError


def upscale_on_cluster(
    given: list[str],
    out: str | None,
    model: str,
    scale: int | None,
    options: dict[str, Any],
    *,
    suffix: str | None,
    quality: int,
    recursive: bool,
    overwrite: bool,
    skip_existing: bool,
    manifest: Path | None,
    max_pixels: int,
    workers: int | None,
    as_json: bool,
) -> None:
    """Plan here, work there, report as for a batch on this machine."""
    if out is None:
        raise UsageError("--engine ray needs --out: the folder that results go to")
    from hspan.inference import Manifest, Upscaler, batch_settings
    from hspan.integrations.ray import plan_addresses, upscale_on_ray

    # Built here too, so that a wrong call fails before anything starts, and for the settings.
    local: dict[str, Any] = {**options, "device": "cpu"}
    here = Upscaler(model, scale, **local)
    jobs, failures = plan_addresses(given, here.scale, out=out, suffix=suffix, recursive=recursive)
    report = BatchReport(as_json)
    for source, reason in failures:
        report.fail(source, None, reason)
    with ExitStack() as stack:
        kept = None
        if manifest is not None:
            settings = {**batch_settings(here, quality), "device": options["device"]}
            kept = stack.enter_context(Manifest(manifest, settings))
        stop = stack.enter_context(interruptible())
        try:
            with report.progress(len(jobs)):
                outcomes = upscale_on_ray(
                    jobs,
                    model,
                    scale,
                    out=out,
                    options=options,
                    suffix=suffix,
                    quality=quality,
                    max_pixels=max_pixels,
                    manifest=kept,
                    skip_existing=skip_existing,
                    overwrite=overwrite,
                    workers=workers,
                    stop=stop,
                )
                for outcome in outcomes:
                    report.add(outcome)
        finally:
            report.close()
    if stop():
        complain("interrupted: go on with the same call")
        raise typer.Exit(stop.status)
    if report.failed:
        raise typer.Exit(1)

"""``hspan eval``: score a model on folders of images, beside the paper's scores."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hspan.cli._json_output import check_json, write_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from hspan.evaluation import DatasetScore, Evaluation, Failure, ImageScore


class Kind(str, Enum):
    """Degradations of Tables II and III."""

    BI = "BI"
    BD = "BD"


class Grey(str, Enum):
    """How one-channel images are scored."""

    REPLICATE = "replicate"
    RAW = "raw"


def evaluate(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="DIR", help="More folders of images.")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option("--data", "-d", metavar="DIR", help="Folder of images.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="bicubic, a shipped weight's name, or a file.")
    ] = "hspan-light",
    scale: Annotated[int, typer.Option("--scale", "-s", help="2, 3 or 4.")] = 2,
    kind: Annotated[
        Kind, typer.Option(help="How LR is made: BI bicubic, BD blur and decimation (×3).")
    ] = Kind.BI,
    grey: Annotated[
        Grey, typer.Option(help="Score one-channel images as RGB, or on their own values.")
    ] = Grey.REPLICATE,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Average over 8 flips and rotations.")
    ] = False,
    tile: Annotated[
        str, typer.Option("--tile", "-t", help="LR pixels per side, 0 for no tiles, or auto.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps...")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16, fp16, or auto.")] = "fp32",
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the result; - is stdout.")
    ] = None,
    save_images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the upscaled images here.")
    ] = None,
) -> None:
    """Score a model: PSNR and SSIM on Y, with the protocol and the paper's scores.

    LR images found beside the HR images are used; otherwise they are made.

    Exit status 1 if an image couldn't be scored.
    """
    from rich.console import Console

    from hspan.evaluation import evaluate as run

    check_json(json_file)
    notes = Console(stderr=True, highlight=False)
    with _Progress(notes) as progress:
        result = run(
            model,
            [*(data or []), *(folders or [])],
            scale=scale,
            kind=kind.value,
            grey=grey.value,
            ensemble=ensemble,
            tile=_tile(tile),
            device=device,
            precision=precision,
            save_images=save_images,
            on_image=progress.report,
        )
    _print(result, grey, notes if json_file == "-" else Console(highlight=False))
    if json_file is not None:
        write_json(result.to_json(), json_file)
    if not result.complete:
        raise typer.Exit(1)


class _Progress:
    """A bar while images are scored, and at once a line for every image that fails."""

    def __init__(self, console: Console) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        self._bar = Progress(
            *columns,
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def report(self, dataset: str, outcome: ImageScore | Failure, total: int) -> None:
        from hspan.evaluation import Failure

        if isinstance(outcome, Failure):
            self._bar.console.print(
                f"hspan: {dataset}/{outcome.name}: {outcome.reason}", markup=False
            )
        self._bar.update(self._task, description=dataset, total=total, advance=1)


def _print(result: Evaluation, grey: Grey, console: Console) -> None:
    from rich.table import Table

    protocol = result.protocol
    table = Table(title=f"{result.model} ×{protocol.scale} {protocol.kind}", title_justify="left")
    for name in ("data set", "images", "method"):
        table.add_column(name)
    for name in ("PSNR", "SSIM", "difference"):
        table.add_column(name, justify="right")
    for dataset in result.datasets:
        _add_rows(table, result, dataset)
    console.print(table)
    for line in protocol.lines():
        console.print(line, markup=False, soft_wrap=True)
    for source in sorted({dataset.lr for dataset in result.datasets}):
        names = ", ".join(dataset.name for dataset in result.datasets if dataset.lr == source)
        console.print(f"LR of {names}: {source}", markup=False, soft_wrap=True)
    for row in result.references:
        if row.note:
            console.print(f"{row.method} in the paper: {row.note}", markup=False, soft_wrap=True)
    replicated = grey is Grey.REPLICATE and result.model == "bicubic"
    if replicated and any(dataset.name.lower() == "set14" for dataset in result.datasets):
        console.print(
            "Set14: the paper's Bicubic row scores the one grey image on its own values; "
            "--grey raw does too.",
            soft_wrap=True,
        )


def _add_rows(table: Table, result: Evaluation, dataset: DatasetScore) -> None:
    scored, failed = len(dataset.images), len(dataset.failures)
    count = f"{scored} of {scored + failed}" if failed else str(scored)
    table.add_row(dataset.name, count, result.model, _psnr(dataset.psnr), _ssim(dataset.ssim), "")
    for row in result.references:
        if (paper := row.score(dataset.name)) is not None:
            psnr = _difference(dataset.psnr, paper.psnr, 2)
            ssim = _difference(dataset.ssim, paper.ssim, 4)
            shown = _psnr(paper.psnr), _ssim(paper.ssim), f"{psnr} / {ssim}"
            table.add_row("", "", f"{row.method} (paper)", *shown, style="dim")
    table.add_section()


def _psnr(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _ssim(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _difference(ours: float | None, theirs: float | None, digits: int) -> str:
    if ours is None or theirs is None:
        return "-"
    return f"{round(ours - theirs, digits) + 0.0:+.{digits}f}"  # adding 0 drops the sign of zero


def _tile(text: str) -> int | Literal["auto"]:
    from hspan.errors import UsageError

    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise UsageError(f"--tile is auto, 0 or a number of pixels, got {text!r}")
    return int(text)

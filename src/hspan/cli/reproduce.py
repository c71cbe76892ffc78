"""``hspan reproduce``: a figure or a table of the paper, or all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer


def reproduce(
    name: Annotated[
        str, typer.Argument(help="fig1, fig2, fig4 to fig12, table1, table2, table3, or all.")
    ],
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer evaluates it on Python 3.10)
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Overrides such as recipe.training.max_steps=2000."
        ),
    ] = None,
    budget: Annotated[
        Literal["quick", "day", "paper"],
        typer.Option(help="How much work: minutes, hours, or the published setting."),
    ] = "quick",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of all results.")] = Path(
        "results"
    ),
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--data", "-d", metavar="DIR", help="Folder that holds Set5, Set14..."),
    ] = None,
    train_data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="Training images, for what trains networks."),
    ] = None,
    weights: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--weights", "-w", metavar="PATH", help="Checkpoint, or a folder of them."),
    ] = None,
    seeds: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--seeds", "--seed", help="Instead of the settings': 0,1,2."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps...")] = "auto",
    settings_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--settings", metavar="FILE", help="A results/NAME/settings.toml, changed."),
    ] = None,
) -> None:
    """Reproduce a figure or table: published numbers beside measured ones.

    Writes OUT/NAME/report.md, and OUT/report.html with every experiment so far.

    The same command again goes on where it was interrupted.

    Exit status 1 if an experiment couldn't be done.
    """
    from rich.console import Console

    from hspan.reproduce import Job, reproduce_all
    from hspan.reproduce import reproduce as run

    console = Console(stderr=True, highlight=False)

    def say(sentence: str) -> None:
        console.print(sentence, markup=False, soft_wrap=True)

    job = Job(
        name=name,
        budget=budget,
        out=out,
        data=data,
        train_data=train_data,
        weights=tuple(weights or ()),
        seeds=_seeds(seeds),
        device=device,
        overrides=tuple(settings or ()),
        settings_file=settings_file,
        say=say,
    )
    if name != "all":
        run(job)
        print(job.folder / "report.md")
        return
    undone = [outcome for outcome in reproduce_all(job) if outcome.reason]
    print(out / "report.html")
    if undone:
        raise typer.Exit(1)


def _seeds(words: str | None) -> tuple[int, ...] | None:
    from hspan.errors import UsageError

    if words is None:
        return None
    parts = [part.strip() for part in words.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"--seeds is a number, or several with commas, got {words!r}")
    return tuple(int(part) for part in parts)

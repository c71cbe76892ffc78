"""``hspan train``: a recipe, overrides, a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a packaged recipe, or a TOML file.")],
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer evaluates it on Python 3.10)
        typer.Argument(help="Overrides such as data.train=DIR training.max_steps=2000."),
    ] = None,
    resume: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="'auto' to continue the run in --out if there is one, or a checkpoint."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", help="Folder of the run.  [default: runs/RECIPE]"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show all settings and stop.")] = False,
) -> None:
    """Train a network as a recipe says; every setting can be overridden as KEY=VALUE."""
    from rich.console import Console

    from hspan.training import load_recipe
    from hspan.training import train as run

    console = Console(file=sys.stderr, highlight=False)
    chosen = load_recipe(recipe, settings or [])
    if dry_run:
        for section, table in chosen.as_dict().items():
            if isinstance(table, dict):
                for key, value in table.items():
                    print(f"{section}.{key}={value}")
        return
    folder = out or Path("runs") / chosen.name
    from hspan.cli._training_progress import TrainingProgress

    with TrainingProgress(console, chosen.training.max_steps) as progress:
        result = run(chosen, folder, resume=resume, observer=progress)
    score = "" if result.psnr is None else f", {result.psnr:.2f} dB on the validation images"
    print(f"{result.steps} steps in {result.seconds:.0f} s{score}")
    if result.interrupted:
        console.print(f"hspan: interrupted; continue with --resume auto --out {folder}")
        raise typer.Exit(1)
    print(result.weights)

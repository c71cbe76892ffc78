"""``hspan data``: is a folder of images fit for use, and the LR images that belong to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

app = typer.Typer(help="Check and prepare folders of images.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="Folder of images.")]
Kind = Annotated[
    Literal["BI", "BD"], typer.Option(help="Bicubic, or blur and decimation (scale 3 only).")
]


@app.command("check")
def check(
    folder: Folder,
    scale: Annotated[int, typer.Option("--scale", "-s", min=1, help="Ratio of HR to LR.")] = 2,
    kind: Kind = "BI",
    patch: Annotated[int, typer.Option(min=1, help="Side of an LR patch in training.")] = 48,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Decode every image and say what is missing, damaged or of the wrong size.

    Exit status 1 if there is any such file. Images smaller than a training patch are named, but
    only training leaves them out.
    """
    from hspan.data import check_folder

    with _progress() as progress:
        task = progress.add_task("decoding", total=None)
        found = check_folder(
            folder,
            scale,
            kind,
            patch=patch,
            report=lambda done, total: progress.update(task, completed=done, total=total),
        )
    widths, heights = zip(*found.sizes.values(), strict=True) if found.sizes else ((), ())
    if as_json:
        report = {
            "folder": str(folder),
            "layout": found.layout,
            "scale": scale,
            "kind": kind,
            "images": len(found.sizes),
            "width": [min(widths), max(widths)] if widths else None,
            "height": [min(heights), max(heights)] if heights else None,
            "megapixels": sum(w * h for w, h in found.sizes.values()) / 1e6,
            "too_small": found.too_small,
            "unusable": found.unusable,
            "problems": found.problems,
            "ok": found.ok,
        }
        print(json.dumps(report, indent=2))
    else:
        print(f"layout: {found.layout}")
        print(f"usable images: {len(found.sizes)}")
        if widths:
            megapixels = sum(w * h for w, h in found.sizes.values()) / 1e6
            print(
                f"sizes: {min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} "
                f"high, {megapixels:.1f} megapixels in all"
            )
        for name in found.too_small:
            print(f"too small for a {patch * scale}×{patch * scale} training patch: {name}")
        for reason in [*found.unusable.values(), *found.problems]:
            print(f"unusable: {reason}", file=sys.stderr)
        print("verdict: " + ("ready" if found.ok else "not all of it can be used"))
    if not found.ok:
        raise typer.Exit(1)


@app.command("degrade")
def degrade(
    folder: Folder,
    scale: Annotated[int, typer.Option("--scale", "-s", min=2, help="Ratio of HR to LR.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Gets LR_bicubic/X2/NAMEx2.png.")],
    kind: Kind = "BI",
) -> None:
    """Make the LR images of a folder of HR images, in the field's usual layout."""
    from hspan.data import degrade_folder

    with _progress() as progress:
        task = progress.add_task("reducing", total=None)
        target, failed = degrade_folder(
            folder,
            out,
            scale,
            kind,
            report=lambda done, total: progress.update(task, completed=done, total=total),
        )
    for reason in failed.values():
        print(f"hspan: {reason}", file=sys.stderr)
    print(target)
    if failed:
        raise typer.Exit(1)


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=sys.stderr)
    return Progress(console=console, transient=True, disable=not console.is_terminal)

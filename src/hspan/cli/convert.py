"""``hspan convert``: an official checkpoint into our own format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from hspan.cli._settings import read_settings


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="OFFICIAL", help="Checkpoint: .pt, .pth, .mat, .safetensors.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Ends in .safetensors.")],
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer evaluates it on Python 3.10)
        typer.Argument(help="What the file can't tell, such as residual_scale=0.1."),
    ] = None,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The network, where keys and shapes don't say it."),
    ] = None,
    scale: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--scale", "-s", help="Where keys and shapes don't say it."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUT if it exists; never OFFICIAL.")
    ] = False,
) -> None:
    """Turn a published checkpoint into safetensors that name their network and settings.

    The network that OUT loads into computes the same bits.
    """
    from hspan.models import registry_name
    from hspan.weights import convert_checkpoint, weights_hash

    network = convert_checkpoint(
        source, target, name=name, scale=scale, overwrite=overwrite, **read_settings(settings or [])
    )
    parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
    print(
        f"{target}: {name or registry_name(network)} ×{network.config.scale}, "  # pyright: ignore[reportAttributeAccessIssue] (every network has one)
        f"{parameters:,} parameters, hash {weights_hash(network)}"
    )

"""``hspan models``: the networks, their sizes, and the weights that come with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from hspan.weights import ShippedWeight

SCHEMA = "hspan.models/1"


def models(
    name: Annotated[
        str | None, typer.Argument(help="One network or shipped weight, in detail.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List networks and shipped weights, or describe one of them.

    JSON: schema (hspan.models/1), models (name, title, year, parameters by scale, config) and
    weights (name, model, scale, kind, bytes, hash, sha256, config, provenance).
    """
    from rich.console import Console

    from hspan.models import MODELS, network_entry
    from hspan.weights import shipped_weights

    weights = shipped_weights()
    if name is None:
        names, chosen = list(MODELS), list(weights.values())
    elif name in weights:
        names, chosen = [], [weights[name]]
    else:
        network_entry(name)  # raises for an unknown name
        names, chosen = [name], [w for w in weights.values() if w.model == name]
    networks = [_describe(n) for n in names]
    if as_json:
        import json

        content = {"schema": SCHEMA, "models": networks, "weights": [_plain(w) for w in chosen]}
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if networks:
        _print_networks(networks, console)
    if chosen:
        _print_weights(chosen, console)
    elif name is not None:
        console.print(f"No weights of {name} come with the package; name a checkpoint file.")
    if name is not None:
        _print_details(networks, chosen, console)


def _describe(name: str) -> dict[str, Any]:
    import dataclasses

    import torch

    from hspan.models import MODELS, create_model

    parameters: dict[str, int] = {}
    config: dict[str, Any] = {}
    for scale in (2, 3, 4):
        with torch.device("meta"):  # counts without allocating
            network = create_model(name, scale=scale)
        trainable = (p.numel() for p in network.parameters() if p.requires_grad)
        parameters[str(scale)] = sum(trainable)
        config = config or dataclasses.asdict(network.config)  # pyright: ignore[reportArgumentType] (every network has one)
    entry = MODELS[name]
    return {
        "name": name,
        "title": entry.title,
        "year": entry.year,
        "parameters": parameters,
        "config": config,
    }


def _plain(weight: ShippedWeight) -> dict[str, Any]:
    keys = ("name", "model", "scale", "kind", "bytes", "hash", "sha256", "config", "provenance")
    return {key: getattr(weight, key) for key in keys}


def _print_networks(networks: list[dict[str, Any]], console: Console) -> None:
    from rich.table import Table

    table = Table("network", "year")
    for scale in (2, 3, 4):
        table.add_column(f"params ×{scale}", justify="right")
    table.add_column("what")
    for network in networks:
        counts = [f"{count / 1e6:.2f} M" for count in network["parameters"].values()]
        table.add_row(network["name"], str(network["year"]), *counts, network["title"])
    console.print(table)


def _print_weights(weights: list[ShippedWeight], console: Console) -> None:
    from rich.table import Table

    table = Table("shipped weight", "scale", "kind", "size", "hash", "PSNR / SSIM")
    for weight in weights:
        scores = weight.provenance.get("scores", {})
        shown = [f"{name} {s['psnr']:.2f} / {s['ssim']:.4f}" for name, s in scores.items()]
        size = f"{weight.bytes / 1e6:.2f} MB"
        row = weight.name, f"×{weight.scale}", weight.kind, size, weight.hash
        table.add_row(*row, "\n".join(shown) or "-")
    console.print(table)


def _print_details(
    networks: list[dict[str, Any]], weights: list[ShippedWeight], console: Console
) -> None:
    """Settings and what they mean; for a weight, its own settings and where it comes from."""
    import inspect

    from rich.table import Table

    from hspan.models import network_entry

    model = networks[0]["name"] if networks else weights[0].model
    table = Table("setting", "default" if networks else "value")
    for key, value in (networks[0]["config"] if networks else weights[0].config).items():
        table.add_row(key, "none" if value is None else str(value))
    console.print(table)
    if networks:
        console.print(
            inspect.getdoc(network_entry(model).config) or "", markup=False, soft_wrap=True
        )
        return
    for key, value in weights[0].provenance.items():
        console.print(f"{key}: {value}", markup=False, soft_wrap=True)

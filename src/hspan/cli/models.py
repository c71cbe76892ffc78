"""``hspan models``: networks, their cost and published scores, and the weights that are here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table

    from hspan.evaluation import ModelCost
    from hspan.weights import ShippedWeight

SCHEMA = "hspan.models/1"
_SETS = ("Set5", "Urban100")  # whose published PSNR the table shows


def models(
    name: Annotated[
        str | None, typer.Argument(help="One network or shipped weight, in detail.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List networks and shipped weights, or describe one of them.

    JSON: schema (hspan.models/1), models (name, title, year, paper, venue, parameters,
    multiply_adds, receptive_field and published by scale, weights, config) and weights (name,
    model, scale, kind, bytes, hash, sha256, config, provenance).
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
    networks = [_describe(n, [w for w in chosen if w.model == n]) for n in names]
    if as_json:
        import json

        content = {"schema": SCHEMA, "models": networks, "weights": [_plain(w) for w in chosen]}
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if networks:
        _print_networks(networks, console)
        _print_costs(networks, console)
        _print_scores(networks, chosen, console)
    if chosen:
        _print_weights(chosen, console)
    elif name is not None:
        console.print(f"No weights of {name} come with the package; name a checkpoint file.")
    if name is not None:
        _print_details(networks, chosen, console)


def _describe(name: str, weights: list[ShippedWeight]) -> dict[str, Any]:
    import dataclasses

    from hspan.evaluation import model_costs, published_row
    from hspan.models import MODELS, PAPERS

    entry, paper, costs = MODELS[name], PAPERS[name], model_costs(name)
    rows = {scale: published_row(name, scale) for scale in costs}
    return {
        "name": name,
        "title": entry.title,
        "year": entry.year,
        "paper": paper.title,
        "venue": paper.venue,
        "parameters": {str(scale): cost.parameters for scale, cost in costs.items()},
        "multiply_adds": {str(scale): _counts(cost) for scale, cost in costs.items()},
        "receptive_field": {
            str(scale): cost.receptive_field or "global" for scale, cost in costs.items()
        },
        "published": {
            str(scale): {data: dataclasses.asdict(score) for data, score in row.scores.items()}
            for scale, row in rows.items()
            if row is not None
        },
        "weights": [weight.name for weight in weights],
        "config": dataclasses.asdict(entry.config(**{"scale": 2, **entry.defaults})),
    }


def _counts(cost: ModelCost) -> dict[str, int]:
    import dataclasses

    return {"total": cost.multiply_adds.total, **dataclasses.asdict(cost.multiply_adds)}


def _plain(weight: ShippedWeight) -> dict[str, Any]:
    keys = ("name", "model", "scale", "kind", "bytes", "hash", "sha256", "config", "provenance")
    return {key: getattr(weight, key) for key in keys}


def _print_networks(networks: list[dict[str, Any]], console: Console) -> None:
    table = _table("network", "paper", wide=("paper",))
    for network in networks:
        table.add_row(network["name"], _cited(network))
    console.print(table, "")


def _print_costs(networks: list[dict[str, Any]], console: Console) -> None:
    columns = [f"{what}\n×{scale}" for what in ("params", "mult-adds") for scale in (2, 3, 4)]
    table = _table("network", *columns)
    for network in networks:
        table.add_row(
            network["name"],
            *_by_scale(network["parameters"], lambda count: _short(count, 2)),
            *_by_scale(network["multiply_adds"], lambda count: _short(count["total"], 1)),
        )
    console.print(table, "")


def _print_scores(
    networks: list[dict[str, Any]], weights: list[ShippedWeight], console: Console
) -> None:
    columns = [f"PSNR\n×{scale}" for scale in (2, 3, 4)]
    table = _table("network", "field", *columns, "here")
    for network in networks:
        fields = [str(field) for field in network["receptive_field"].values()]
        here = sorted({w.scale for w in weights if w.name in network["weights"]})
        table.add_row(
            network["name"],
            fields[0] if len(set(fields)) == 1 else " ".join(fields),
            *_by_scale(network["published"], _published),
            " ".join(f"×{scale}" for scale in here) or "-",
        )
    console.print(table, "")
    for line in (
        "mult-adds: for one SR image of 1280×720 pixels; attention over N positions counts as N×N, "
        "however little of that is computed",
        "field: receptive field, columns of LR pixels that an SR pixel depends on, at ×2 ×3 ×4",
        f"PSNR: {'/'.join(_SETS)} in dB as published, Table II of HSPAN's paper",
        "here: scales whose weights come with the package",
    ):
        console.print(line, markup=False, soft_wrap=True)
    console.print()


def _table(*columns: str, wide: tuple[str, ...] = ()) -> Table:
    """Without lines: 80 columns must do."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for i, name in enumerate(columns):
        right = i > 0 and name not in (*wide, "field", "here")
        table.add_column(name, justify="right" if right else "left", no_wrap=name not in wide)
    return table


def _cited(network: dict[str, Any]) -> str:
    return f"{network['paper']}, {network['venue']} {network['year']}"


def _by_scale(values: dict[str, Any], shown: Callable[[Any], str]) -> list[str]:
    return [shown(values[scale]) if scale in values else "-" for scale in ("2", "3", "4")]


def _published(scores: dict[str, Any]) -> str:
    values = [scores.get(data, {}).get("psnr") for data in _SETS]
    return "/".join("-" if value is None else f"{value:.2f}" for value in values)


def _short(count: int, digits: int) -> str:
    """A number with the usual letter: 1.37 M, 316.2 G."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.{digits}f} {letter}"
    return str(count)


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
        console.print(f"{networks[0]['title']}.\n", markup=False, soft_wrap=True)
        console.print(
            inspect.getdoc(network_entry(model).config) or "", markup=False, soft_wrap=True
        )
        return
    for key, value in weights[0].provenance.items():
        console.print(f"{key}: {value}", markup=False, soft_wrap=True)

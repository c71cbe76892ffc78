"""What every network costs and sees: measured once, kept with the package.

``measured/models.json`` is written by ``benchmarks/model_costs.py``; a test counts anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from hspan.errors import UsageError
from hspan.evaluation._multiply_adds import MultiplyAdds, count_multiply_adds, lr_size
from hspan.evaluation._receptive_field import receptive_field
from hspan.models import create_model, network_entry

SCALES = (2, 3, 4)
_PATCH = 48  # LR pixels per side, as the paper trains (Section IV-A)
# Settings that shorten the measurement of a receptive field and leave it what it is.
_NARROW = {
    "channels": 12,
    "shallow_channels": 12,
    "growth": 12,
    "reduction": 2,
    "inner_reduction": 2,
}
# Columns after which a network repeats itself: the side of its windows.
_PERIODS = {"swinir": 8, "swinir-light": 8}


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """One network at one scale, with its default settings.

    Attributes:
        parameters: trainable.
        multiply_adds: of one image whose SR image has at least 1280×720 pixels.
        patch_multiply_adds: of one training patch of 48×48 LR pixels, all together.
        receptive_field: columns of LR pixels that a column of SR pixels depends on; None is global.
    """

    parameters: int
    multiply_adds: MultiplyAdds
    patch_multiply_adds: int
    receptive_field: int | None


def model_costs(name: str) -> Mapping[int, ModelCost]:
    """What a network of the registry costs, by scale; without the scales that it lacks."""
    return _stored().get(name, MappingProxyType({}))


def build_on_meta(name: str, scale: int) -> nn.Module | None:
    """A network without values, for counting; None if it has no such scale."""
    network_entry(name)  # raises for an unknown name
    try:
        with torch.device("meta"):
            return create_model(name, scale=scale)
    except UsageError:
        return None


def count_parameters(network: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_patch(network: nn.Module) -> int:
    """Multiply-adds of one training patch."""
    return count_multiply_adds(network, _PATCH, _PATCH).total


def measure_field(name: str, scale: int) -> int | None:
    """Measure the receptive field of a network with fewer channels but the same layers."""
    kinds = {f.name: f.type for f in fields(network_entry(name).config)}
    narrow = {key: value for key, value in _NARROW.items() if kinds.get(key) in ("int", int)}
    torch.manual_seed(0)
    network = create_model(name, scale=scale, **narrow).eval()
    period = _PERIODS.get(name, 1)
    return receptive_field(network, scale, period=period, rows=max(8, 2 * period))


def measure_costs(name: str) -> dict[int, ModelCost]:
    """Count a network's costs and measure its receptive field, at every scale that it has."""
    costs: dict[int, ModelCost] = {}
    for scale in SCALES:
        skeleton = build_on_meta(name, scale)
        if skeleton is None:
            continue
        field = None
        if all(cost.receptive_field is not None for cost in costs.values()):
            field = measure_field(name, scale)
        costs[scale] = ModelCost(
            parameters=count_parameters(skeleton),
            multiply_adds=count_multiply_adds(skeleton, *lr_size(scale)),
            patch_multiply_adds=count_patch(skeleton),
            receptive_field=field,
        )
    return costs


def costs_to_json(costs: Mapping[int, ModelCost]) -> dict[str, Any]:
    """Plain values, by scale."""
    return {str(scale): asdict(cost) for scale, cost in costs.items()}


@cache
def _stored() -> dict[str, Mapping[int, ModelCost]]:
    source = files("hspan.evaluation") / "measured" / "models.json"
    content = json.loads(source.read_text(encoding="utf-8"))
    return {
        name: MappingProxyType({int(scale): _cost(cost) for scale, cost in costs.items()})
        for name, costs in content.items()
    }


def _cost(entry: dict[str, Any]) -> ModelCost:
    return ModelCost(
        parameters=entry["parameters"],
        multiply_adds=MultiplyAdds(**entry["multiply_adds"]),
        patch_multiply_adds=entry["patch_multiply_adds"],
        receptive_field=entry["receptive_field"],
    )

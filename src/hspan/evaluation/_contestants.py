"""What can be evaluated: bicubic enlargement, or a network behind ``Upscaler``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import Literal

import numpy as np
from torch import nn

from hspan.errors import UsageError
from hspan.imaging import imresize
from hspan.inference import Upscaler
from hspan.models import MODELS
from hspan.weights import load_model, shipped_weights, weights_hash


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """An upscaling function on uint8 arrays, [H, W] or [H, W, 3], and how it computes."""

    name: str
    upscale: Callable[[np.ndarray], np.ndarray]
    tile: str
    ensemble: bool
    precision: str
    device: str
    weights: str


def bicubic(scale: int, *, ensemble: bool) -> Contestant:
    """Bicubic enlargement as MATLAB does it, the tables' first row.

    Raises:
        UsageError: a self-ensemble is asked for; it would change nothing.
    """
    if ensemble:
        raise UsageError("bicubic enlargement has no self-ensemble")
    return Contestant(
        name="bicubic",
        upscale=lambda lr: imresize(lr, scale),
        tile="whole image",
        ensemble=False,
        precision="8-bit, as MATLAB's imresize",
        device="cpu",
        weights="none",
    )


def network(
    model: str | PathLike[str] | nn.Module,
    scale: int,
    kind: str,
    *,
    device: str,
    precision: str,
    tile: int | Literal["auto"],
    ensemble: bool,
) -> Contestant:
    """A network from a shipped name, a checkpoint or memory.

    Raises:
        UsageError: unknown model, option or device, or a model for another scale.
        InputError: the checkpoint is missing.
        WeightsError: the checkpoint can't be used.
    """
    if not isinstance(model, nn.Module):
        model = load_model(_for_kind(model, scale, kind), scale=scale, device=device)
    upscaler = Upscaler(
        model, scale, device=device, precision=precision, tile=tile, ensemble=ensemble
    )
    return Contestant(
        name=registry_name(model),
        upscale=upscaler,
        tile="whole image" if tile == 0 else str(tile),
        ensemble=ensemble,
        precision=str(upscaler.precision),
        device=str(upscaler.device),
        weights=weights_hash(model),
    )


def registry_name(model: nn.Module) -> str:
    """The name under which the registry builds this network; its class's where it has none.

    Of several names for one class, the one whose settings the network's configuration has.
    """
    fitting = [
        (len(entry.defaults), name)
        for name, entry in MODELS.items()
        if entry.build is type(model)
        and all(getattr(model.config, key) == value for key, value in entry.defaults.items())
    ]
    return max(fitting)[1] if fitting else type(model).__name__


def _for_kind(model: str | PathLike[str], scale: int, kind: str) -> str | PathLike[str]:
    """The shipped weight of a bare name that was trained for this degradation."""
    for weight in shipped_weights().values():
        if (weight.model, weight.scale, weight.kind) == (model, scale, kind):
            return weight.name
    return model

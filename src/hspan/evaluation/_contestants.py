"""What can be evaluated: bicubic enlargement, or a network behind ``Upscaler``."""

from __future__ import annotations

from collections import Counter
from os import PathLike
from typing import Literal, Protocol

import numpy as np
from torch import nn

from hspan.errors import UsageError
from hspan.imaging import Picture, imresize
from hspan.inference import Upscaler
from hspan.models import registry_name
from hspan.weights import load_model, shipped_weights, weights_hash

_OVERLAP = 16  # LR pixels around tiles: part of the protocol, so that scores can be repeated


class Contestant(Protocol):
    """Something that upscales; afterwards it says how it did."""

    name: str
    device: str
    ensemble: bool
    weights: str

    def upscale(self, lr: np.ndarray) -> np.ndarray:
        """Map [H, W, C] to [sH, sW, C], uint8 both."""
        ...

    def precision(self) -> str:
        """In which arithmetic the images so far were upscaled."""
        ...

    def tile(self) -> str:
        """In which pieces the images so far were upscaled."""
        ...


class Bicubic:
    """Bicubic enlargement as MATLAB does it, the tables' first row."""

    name = "bicubic"
    device = "cpu"
    ensemble = False
    weights = "none"

    def __init__(self, scale: int) -> None:
        self._scale = scale

    def upscale(self, lr: np.ndarray) -> np.ndarray:
        """As in ``Contestant``."""
        return imresize(lr, self._scale)

    def precision(self) -> str:
        """As in ``Contestant``."""
        return "8-bit, as MATLAB's imresize"

    def tile(self) -> str:
        """As in ``Contestant``."""
        return "whole images"


class Network:
    """A network from a shipped name, a checkpoint or memory.

    Args:
        model: a name, a path or a network.
        scale: that it must have.
        kind: degradation that it should have been trained for; chooses between shipped weights.
        device: as for ``Upscaler``.
        precision: as for ``Upscaler``.
        tile: as for ``Upscaler``.
        ensemble: average over the 8 flips and rotations.

    Raises:
        UsageError: unknown model, option or device, or a model for another scale.
        InputError: the checkpoint is missing.
        WeightsError: the checkpoint can't be used.
    """

    def __init__(
        self,
        model: str | PathLike[str] | nn.Module,
        scale: int,
        kind: str,
        *,
        device: str,
        precision: str,
        tile: int | Literal["auto"],
        ensemble: bool,
    ) -> None:
        if not isinstance(model, nn.Module):
            model = load_model(_for_kind(model, scale, kind), scale=scale, device=device)
        self.name = registry_name(model)
        self.ensemble = ensemble
        self.weights = weights_hash(model)
        self._upscaler = Upscaler(
            model,
            scale,
            device=device,
            precision=precision,
            tile=tile,
            overlap=_OVERLAP,
            ensemble=ensemble,
        )
        self.device = str(self._upscaler.device)
        self._tiles: Counter[int] = Counter()
        self._precisions: Counter[str] = Counter()
        self._repeated = 0

    def upscale(self, lr: np.ndarray) -> np.ndarray:
        """As in ``Contestant``."""
        result, report = self._upscaler.upscale_picture(Picture(pixels=lr))
        self._tiles[report.tile] += 1
        self._precisions[report.precision] += 1
        self._repeated += report.repeated_in_fp32
        return result.pixels

    def precision(self) -> str:
        """As in ``Contestant``."""
        names = ", ".join(sorted(self._precisions)) or self._upscaler.precision
        return f"{names}; {self._repeated} tiles again in fp32" if self._repeated else names

    def tile(self) -> str:
        """As in ``Contestant``."""
        sizes = sorted(size for size in self._tiles if size)
        if not sizes:
            return "whole images"
        tiled = sum(self._tiles[size] for size in sizes)
        return (
            f"{self._tiles[0]} whole images, {tiled} in tiles of at most {sizes[-1]} LR pixels "
            f"per axis, overlap {self._upscaler.overlap}"
        )


def make_contestant(
    model: str | PathLike[str] | nn.Module,
    scale: int,
    kind: str,
    *,
    device: str,
    precision: str,
    tile: int | Literal["auto"],
    ensemble: bool,
) -> Contestant:
    """The contestant that ``model`` means; arguments and errors are those of ``Network``."""
    if model != "bicubic":
        return Network(
            model,
            scale,
            kind,
            device=device,
            precision=precision,
            tile=tile,
            ensemble=ensemble,
        )
    if ensemble:
        raise UsageError("bicubic enlargement has no self-ensemble")
    return Bicubic(scale)


def _for_kind(model: str | PathLike[str], scale: int, kind: str) -> str | PathLike[str]:
    """The shipped weight of a bare name that was trained for this degradation."""
    for weight in shipped_weights().values():
        if (weight.model, weight.scale, weight.kind) == (model, scale, kind):
            return weight.name
    return model

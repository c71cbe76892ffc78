"""What an explanation says, and the same as values that JSON can hold (docs/explain.md)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from hspan.explanation._grid import Rectangle, TokenGrid
from hspan.modules import Weighting


@dataclass(frozen=True)
class Source:
    """A pixel or patch that something was rebuilt from.

    Attributes:
        place: in LR pixels.
        weight: its share.
        softmax_weight: what softmax over the same similarities would have given it.
        distance: LR pixels from middle to middle.
    """

    place: Rectangle
    weight: float
    softmax_weight: float
    distance: float


@dataclass(frozen=True)
class Sparsity:
    """How many keys the queries of a layer use, over the whole image.

    Attributes:
        mean: number of keys with a weight above zero.
        median: likewise.
        smallest: likewise.
        largest: likewise.
        zeros: share of all weights that are exactly zero.
        mean_distance: LR pixels from a query to its keys, weighed as they are.
    """

    mean: float
    median: float
    smallest: int
    largest: int
    zeros: float
    mean_distance: float


@dataclass(frozen=True, eq=False)
class SwitchedOff:
    """How the result changes when a layer's attention adds nothing.

    Attributes:
        difference: [sH, sW] float32, mean over RGB of the change in 8-bit levels (of 255), both
            results clipped to [0, 1].
        here: its mean over the SR pixels of the asked LR pixel.
        mean: over the image.
        largest: in the image.
    """

    difference: np.ndarray
    here: float
    mean: float
    largest: float


@dataclass(frozen=True, eq=False)
class LayerExplanation:
    """What one application of one attention layer did at the asked pixel.

    Attributes:
        path: of the module in its network.
        call: how often a forward pass had applied it before; 0 but for shared modules.
        module: its class.
        weighting: "soft-threshold" (HSPA) or "softmax" (NLA).
        topk: truncation; None is exact.
        queries: where the layer's tokens lie.
        keys: where those lie that they are compared with.
        here: the token that holds the asked pixel.
        keys_total: M, the number of keys.
        support: number of keys with a weight above zero at ``here``.
        sources: those keys, the heaviest first; of softmax, which spares none, the first 256.
        soft_threshold_weights: [rows, columns] float32 of ``keys``: all weights at ``here``, by
            soft thresholding, whatever the layer's own weighting.
        softmax_weights: the same by softmax over the same similarities.
        softmax_on_support: share of softmax's weight that falls where soft thresholding leaves any.
        softmax_for_90: fewest keys that hold 90 % of softmax's weight.
        added: length of what the attention adds at ``here``, relative to the features that it adds
            it to; None where the layer adds to nothing.
        sparsity: over all tokens; None for softmax, shared-out weights, and without ``maps``.
        support_map: [rows, columns] int64 of ``queries``: keys with a weight above zero.
        distance_map: likewise float32: mean distance of the keys in LR pixels.
        switched_off: None without ``switch_off``.
    """

    path: str
    call: int
    module: str
    weighting: Weighting
    topk: int | None
    queries: TokenGrid
    keys: TokenGrid
    here: Rectangle
    keys_total: int
    support: int
    sources: tuple[Source, ...]
    soft_threshold_weights: np.ndarray
    softmax_weights: np.ndarray
    softmax_on_support: float
    softmax_for_90: int
    added: float | None
    sparsity: Sparsity | None = None
    support_map: np.ndarray | None = None
    distance_map: np.ndarray | None = None
    switched_off: SwitchedOff | None = None

    @property
    def name(self) -> str:
        """The path, and which application where there are several."""
        return f"{self.path}, application {self.call + 1}" if self.call else self.path

    @property
    def weights(self) -> np.ndarray:
        """All weights at ``here`` as the layer weighs: [rows, columns] of ``keys``."""
        sparse = self.weighting == "soft-threshold"
        return self.soft_threshold_weights if sparse else self.softmax_weights

    @property
    def soft_threshold_support(self) -> int:
        """Number of keys to which soft thresholding leaves a weight at ``here``."""
        return int(np.count_nonzero(self.soft_threshold_weights))

    @property
    def token(self) -> str:
        """What a key is, in words: "pixel", "patch of 4×4 pixels"."""
        cell = self.keys.cell
        if cell == 1:
            return "pixel"
        if cell < 1:
            return f"1/{round(1 / cell)} of a pixel a side"
        return f"patch of {cell:g}×{cell:g} pixels"


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where one LR pixel's features came from, layer by layer.

    Attributes:
        model: the network's name or class.
        scale: of the network.
        size: width and height of the LR image.
        at: the asked pixel, x and y.
        layers: in the order in which the network applies them; not the layers whose tokens don't
            hold the pixel (SAN attends in quarters).
        left_out: attention that isn't explained, by path, and why.
        image: the LR image as the network saw it, [H, W, 3] uint8.
        result: the SR image, [sH, sW, 3] uint8.
        seconds: that it took.
    """

    model: str
    scale: int
    size: tuple[int, int]
    at: tuple[int, int]
    layers: tuple[LayerExplanation, ...]
    left_out: dict[str, str]
    image: np.ndarray
    result: np.ndarray
    seconds: float

    def as_dict(self, *, maps: bool = False) -> dict[str, Any]:
        """Plain values for JSON, as docs/explain.md lists them.

        Args:
            maps: the maps too, as lists of rows.
        """
        return {
            "model": self.model,
            "scale": self.scale,
            "size": list(self.size),
            "at": list(self.at),
            "seconds": round(self.seconds, 3),
            "layers": [_layer(layer, maps=maps) for layer in self.layers],
            "left_out": [{"layer": path, "why": why} for path, why in self.left_out.items()],
        }


_MAPS = ("soft_threshold_weights", "softmax_weights", "support_map", "distance_map")


def _layer(layer: LayerExplanation, *, maps: bool) -> dict[str, Any]:
    off = layer.switched_off
    found: dict[str, Any] = {
        "layer": layer.path,
        "call": layer.call,
        "module": layer.module,
        "weighting": layer.weighting,
        "topk": layer.topk,
        "token": layer.keys.cell,
        "here": _box(layer.here),
        "keys": layer.keys_total,
        "support": layer.support,
        "sources": [
            {
                "box": _box(source.place),
                "weight": source.weight,
                "softmax_weight": source.softmax_weight,
                "distance": source.distance,
            }
            for source in layer.sources
        ],
        "soft_threshold": {"support": layer.soft_threshold_support},
        "softmax": {
            "on_support": layer.softmax_on_support,
            "keys_for_90_percent": layer.softmax_for_90,
        },
        "added": layer.added,
        "sparsity": None if layer.sparsity is None else dataclasses.asdict(layer.sparsity),
        "switched_off": None
        if off is None
        else {"here": off.here, "mean": off.mean, "largest": off.largest},
    }
    if maps:
        arrays = {name: getattr(layer, name) for name in _MAPS}
        arrays["difference"] = None if off is None else off.difference
        found["maps"] = {name: None if a is None else a.tolist() for name, a in arrays.items()}
    return found


def _box(place: Rectangle) -> list[float]:
    """x, y, width, height; whole numbers as such."""
    sides = (place.x, place.y, place.width, place.height)
    return [int(side) if float(side).is_integer() else side for side in sides]

"""What attention looks at, as ``hspan.explain`` finds it, in the numbers that figures need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from hspan.explanation import explain


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """The weights of one query in one layer.

    Attributes:
        layer: counted from 1.
        weights: [H, W] of the image's pixels, or of its patches; they sum to 1.
        support: weights above zero.
    """

    layer: int
    weights: np.ndarray
    support: int


def attention_maps(
    network: nn.Module, image: np.ndarray, at: tuple[int, int]
) -> list[AttentionMap]:
    """Weights of one pixel's query in every layer, in the network's order.

    Args:
        network: any that holds attention.
        image: LR, [H, W, 3], uint8.
        at: column and row of an LR pixel.

    Raises:
        UsageError: the pixel lies outside the image, or there is no attention.
    """
    found = explain(network, image, at, maps=False, switch_off=False)
    return [
        AttentionMap(layer, each.weights, each.support)
        for layer, each in enumerate(found.layers, start=1)
    ]


def support_sizes(network: nn.Module, image: np.ndarray) -> np.ndarray:
    """How many keys each query of each HSPA holds on to: int64, one row."""
    found = explain(network, image, (0, 0), switch_off=False)
    maps = [each.support_map for each in found.layers]
    return np.concatenate([each.ravel() for each in maps if each is not None])


def as_json(maps: Mapping[str, list[AttentionMap]]) -> dict[str, list[dict[str, float]]]:
    """Largest weight and support of every map."""
    return {
        title: [
            {"layer": m.layer, "largest": float(m.weights.max()), "support": m.support}
            for m in layers
        ]
        for title, layers in maps.items()
    }

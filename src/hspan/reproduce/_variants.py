"""The same backbone with one attention or another: training curves and maps, for Figs. 2 and 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hspan.reproduce._attention import AttentionMap
from hspan.reproduce._figures import SKY

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_image(axes: Axes, image: np.ndarray, at: Sequence[int], label: str) -> None:
    """An LR image with a cross on the pixel whose weights are shown."""
    axes.imshow(image)
    _mark(axes, at)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_ylabel(label)


def draw_map(axes: Axes, found: AttentionMap, at: Sequence[int], *, layer: bool = True) -> None:
    """Weights from black (none) to bright (the largest of this map)."""
    axes.imshow(found.weights, cmap="inferno", vmin=0, vmax=float(found.weights.max()))
    _mark(axes, at)
    axes.set_xticks([])
    axes.set_yticks([])
    if layer:
        axes.set_title(f"layer {found.layer}")
    # What brightness alone can't say: how large the largest is, and how many there are.
    axes.set_xlabel(f"max {found.weights.max():.2g}, {found.support:,} > 0", fontsize=6)


def _mark(axes: Axes, at: Sequence[int]) -> None:
    axes.plot(at[0], at[1], "+", color=SKY, markersize=6, markeredgewidth=1)


def map_sentence(maps: Mapping[str, Sequence[AttentionMap]]) -> str:
    """Supports and largest weights over all layers, for each network."""
    parts: list[str] = []
    for title, layers in maps.items():
        supports = [each.support for each in layers]
        largest = [float(each.weights.max()) for each in layers]
        parts.append(
            f"{title}: {_span(supports, ',')} weights above zero, the largest "
            f"{_span(largest, '.2g')}"
        )
    return "; ".join(parts)


def _span(values: Sequence[float], form: str) -> str:
    first, last = f"{min(values):{form}}", f"{max(values):{form}}"
    return first if first == last else f"{first} to {last}"

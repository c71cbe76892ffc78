"""An explanation as a picture that needs no other explanation."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hspan.explanation._panels import (
    difference_panel,
    distance_panel,
    shares_panel,
    sources_panel,
    strip,
    support_panel,
)
from hspan.explanation._result import Explanation, LayerExplanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE: Any = {"font.size": 9, "svg.hashsalt": "hspan", "axes.titlesize": 10}
_WIDTH = 12.0  # inches
_LINE = 150  # characters of the text below a figure


def draw_explanation(explanation: Explanation, path: Path, *, title: str = "") -> None:
    """Draw an explanation: one layer in full, several in a row each.

    Args:
        explanation: of ``explain``.
        path: the file to write, .png, .svg or .pdf.
        title: what the image is called.

    Raises:
        UsageError: matplotlib isn't installed, or the path can't be a figure.
        InputError: the file can't be written.
    """
    check_figure(path)
    from matplotlib import rc_context

    from hspan.evaluation.bench_attention import save_figure

    with rc_context(_STYLE):
        one = len(explanation.layers) == 1
        figure = (_in_full if one else _overview)(explanation, title)
        save_figure(figure, path, dpi=120)


def _in_full(explanation: Explanation, title: str) -> Figure:
    from matplotlib.figure import Figure

    layer = explanation.layers[0]
    below: list[Any] = []
    if layer.support_map is not None:
        below += [support_panel, distance_panel]
    if layer.switched_off is not None:
        below.append(difference_panel)
    width, height = explanation.size
    tall = min(max(height / width, 0.6), 1.6) * _WIDTH / 3.4  # of a panel, in inches
    heights = [tall + 1.2, 1.75] + [tall + 1.2] * bool(below)
    figure = Figure(figsize=(_WIDTH, sum(heights) + 1.4), layout="constrained")
    top, middle, *bottom = _parts(figure, heights)
    panels = top.subplots(1, 3)
    sources_panel(panels[0], explanation, layer)
    shares_panel(panels[1], explanation, layer, "soft-threshold")
    shares_panel(panels[2], explanation, layer, "softmax")
    strip(middle, explanation, layer)
    if below:
        axes = bottom[0].subplots(1, 3)
        for panel, place in zip(below, axes, strict=False):
            panel(place, explanation, layer)
        for place in axes[len(below) :]:
            place.axis("off")
    _head(figure, explanation, title)
    figure.supxlabel(_notes(layer), x=0.012, ha="left", fontsize=9)
    return figure


def _overview(explanation: Explanation, title: str) -> Figure:
    from matplotlib.figure import Figure

    count = len(explanation.layers)
    width, height = explanation.size
    tall = min(max(height / width, 0.6), 1.6) * _WIDTH / 4.6 + 0.7
    figure = Figure(figsize=(_WIDTH, tall * count + 1.0), layout="constrained")
    parts = _parts(figure, [1.0] * count)
    for part, layer in zip(parts, explanation.layers, strict=True):
        axes = part.subplots(1, 4)
        panels: list[Any] = [sources_panel]
        if layer.support_map is not None:
            panels += [support_panel, distance_panel]
        if layer.switched_off is not None:
            panels.append(difference_panel)
        for panel, place in zip(panels, axes, strict=False):
            panel(place, explanation, layer, brief=True)
        for place in axes[len(panels) :]:
            place.axis("off")
        part.suptitle(f"{layer.name} ({_weighs(layer)})", x=0.01, ha="left", fontsize=9.5)
    _head(figure, explanation, title)
    return figure


def _parts(figure: Figure, heights: list[float]) -> list[Any]:
    """Parts of a figure, one below the other."""
    return list(figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])


def _weighs(layer: LayerExplanation) -> str:
    if layer.weighting == "softmax":
        return f"{layer.module}, softmax over {layer.keys_total:,} keys"
    kept = "" if layer.topk is None else f", of the {layer.topk} most similar"
    return f"{layer.module}, {layer.support:,} of {layer.keys_total:,} keys{kept}"


def _head(figure: Figure, explanation: Explanation, title: str) -> None:
    x, y = explanation.at
    of = f" of {title}" if title else ""
    layers = explanation.layers
    where = f"attention layer {layers[0].name}" if len(layers) == 1 else f"{len(layers)} layers"
    figure.suptitle(
        f"Where did pixel ({x}, {y}){of} come from?   "
        f"({explanation.model} ×{explanation.scale}, {where})",
        x=0.012,
        ha="left",
        fontsize=13,
        fontweight="bold",
    )


def _notes(layer: LayerExplanation) -> str:
    found: list[str] = []
    if layer.sparsity is not None:
        s = layer.sparsity
        found.append(
            f"Over the whole image, a {layer.token} is built from {s.mean:,.0f} of "
            f"{layer.keys_total:,} on average (median {s.median:,.0f}, from {s.smallest:,} to "
            f"{s.largest:,}): {100 * s.zeros:.1f} % of all weights are exactly zero."
        )
    if layer.added is not None:
        found.append(
            "What the attention adds at the asked place is "
            f"{100 * layer.added:.1f} % as large as the features it is added to."
        )
    found.append(
        "Attention is one step of the network: the features that it mixes already hold each "
        "place's surroundings, through the convolutions before it."
    )
    return "\n".join(textwrap.wrap(" ".join(found), _LINE))


def check_figure(path: Path) -> None:
    """Raise UsageError unless a figure can be drawn and written there."""
    from hspan.evaluation.bench_attention import check_plot

    check_plot(path)

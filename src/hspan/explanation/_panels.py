"""The panels of an explanation's figure: each shows one thing and says in words what."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from hspan.explanation._grid import Rectangle, TokenGrid
from hspan.explanation._result import Explanation, LayerExplanation
from hspan.modules import Weighting

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ASKED = "#00E5FF"  # seen on skin, sky and suits alike
_SOURCE = "#FFE000"
_ARROWS = 12  # strongest sources that get one
_THUMBNAILS = 7
_SHOWN = 0.998  # of the differences lie within the colours; the largest would darken all others
_CAPTION = 56  # characters of a line below a panel


def sources_panel(
    axes: Axes, explanation: Explanation, layer: LayerExplanation, *, brief: bool = False
) -> None:
    """The image with the asked place and dots on what it was built from."""
    _picture(axes, explanation, explanation.image)
    sources = layer.sources
    here = layer.here.centre
    heaviest = max((s.weight for s in sources), default=1.0)
    for source in sources[:_ARROWS]:
        axes.annotate(
            "",
            xy=here,
            xytext=source.place.centre,
            arrowprops={
                "arrowstyle": "-|>",
                "color": _SOURCE,
                "linewidth": 0.8 + 1.2 * source.weight / heaviest,
                "shrinkB": 9,
            },
        )
    if sources:
        x, y = zip(*(s.place.centre for s in sources), strict=True)
        sizes = [12 + 150 * s.weight / heaviest for s in sources]
        axes.scatter(x, y, sizes, color=_SOURCE, edgecolors="black", linewidths=0.7)
    _mark(axes, layer.here, explanation)
    if brief:
        axes.set_title("built from")
        return
    place = (
        "the asked pixel"
        if layer.keys.cell == 1
        else f"the {_one(layer)} that holds the asked pixel"
    )
    if layer.weighting == "soft-threshold":
        which = f"the {_count(len(sources), layer)}"
        rest = f"The other {layer.keys_total - layer.support:,} take no part in it."
    else:
        which = f"the {_count(len(sources), layer)} of most weight"
        rest = f"All {layer.keys_total:,} take part in it."
    _name(
        axes,
        "This place was built from these",
        f"Square: {place}. Dots: {which} that the attention mixed into it, larger for a larger "
        f"share; arrows come from the strongest. {rest}",
    )


def shares_panel(
    axes: Axes, explanation: Explanation, layer: LayerExplanation, weighting: Weighting
) -> None:
    """All weights of the asked place on the grey image, on one logarithmic scale for both."""
    from matplotlib.colors import LogNorm

    sparse = weighting == "soft-threshold"
    both = (layer.soft_threshold_weights, layer.softmax_weights)
    shown = both[0] if sparse else both[1]
    positive = [float(w[w > 0].min()) for w in both if (w > 0).any()]
    # Softmax may go down to nothing; four powers of ten tell enough.
    top = max(float(w.max()) for w in both)
    bottom = max(min(positive, default=top), top * 1e-4)
    grey = explanation.image.mean(axis=2)
    _picture(axes, explanation, 255 - 0.45 * (255 - grey), cmap="gray", vmin=0, vmax=255)
    norm = LogNorm(bottom, max(top, bottom * 1.01), clip=True)
    image = axes.imshow(
        np.ma.masked_less_equal(shown, 0),
        extent=_extent(layer.keys),
        norm=norm,
        cmap="plasma",
        alpha=0.9,
        interpolation="nearest",
    )
    _limit(axes, explanation)
    _mark(axes, layer.here, explanation)
    _percent_bar(axes, image)
    support = layer.soft_threshold_support
    used = layer.weighting == weighting
    if sparse:
        _name(
            axes,
            "HSPA: few, the rest exactly zero" if used else "HSPA would keep few, the rest zero",
            f"Share of every {_one(layer)} in the marked one. Soft thresholding keeps "
            f"{_count(support, layer)} out of {layer.keys_total:,}; grey means a share of exactly "
            "zero.",
        )
    else:
        _name(
            axes,
            "NLA, as used here: some of everything" if used else "NLA: a little of everything",
            "Softmax attention on the very same similarities gives everything a share: "
            f"{layer.softmax_for_90:,} of {layer.keys_total:,} are needed for 90 % of it, and the "
            f"{support:,} that HSPA keeps get {_percent(layer.softmax_on_support)} together.",
        )


def strip(part: Any, explanation: Explanation, layer: LayerExplanation) -> None:
    """The asked place and its strongest sources, enlarged, with their shares, as a sum."""
    shown = layer.sources[:_THUMBNAILS]
    axes = part.subplots(1, _THUMBNAILS + 2)
    rest = layer.support - len(shown)
    side = max(24.0, 6 * layer.keys.cell)
    _thumbnail(axes[0], explanation, layer.here, side, _ASKED)
    axes[0].set_title("this place", fontsize=9)
    for i, (place, source) in enumerate(zip(axes[1:], shown, strict=False)):
        _thumbnail(place, explanation, source.place, side, _SOURCE)
        place.set_title(f"{'=' if i == 0 else '+'}  {_percent(source.weight)} of", fontsize=9)
    for place in axes[1 + len(shown) :]:
        place.axis("off")
    if rest > 0:
        left = max(0.0, float(layer.weights.sum()) - sum(s.weight for s in shown))
        axes[1 + len(shown)].text(
            0.0, 0.5, f"+  {_percent(left)}\nof {rest:,} more", va="center", fontsize=9
        )
    part.suptitle(
        f"The same, close up: each square is a {layer.token}, shown with its surroundings",
        x=0.01,
        ha="left",
        fontsize=10,
        fontweight="bold",
    )


def support_panel(
    axes: Axes, explanation: Explanation, layer: LayerExplanation, *, brief: bool = False
) -> None:
    """How many keys every place uses."""
    assert layer.support_map is not None
    _map(axes, explanation, layer.queries, layer.support_map, "viridis", layer.here)
    if brief:
        axes.set_title("keys used at each place")
        return
    _name(
        axes,
        "How many does each place use?",
        f"The number of {_many(layer)} with a share above zero, asked for every place of the "
        "image. Few: hardly anything resembles it; many: it looks like much of the image.",
    )


def distance_panel(
    axes: Axes, explanation: Explanation, layer: LayerExplanation, *, brief: bool = False
) -> None:
    """How far away they are."""
    assert layer.distance_map is not None
    _map(axes, explanation, layer.queries, layer.distance_map, "cividis", layer.here)
    if brief:
        axes.set_title("their distance (pixels)")
        return
    _name(
        axes,
        "How far away are they?",
        "Mean distance in pixels between a place and what it was built from. A convolution sees a "
        "few pixels around it; this reaches across the image.",
    )


def difference_panel(
    axes: Axes, explanation: Explanation, layer: LayerExplanation, *, brief: bool = False
) -> None:
    """What changes without this layer's attention."""
    off = layer.switched_off
    assert off is not None
    top = max(float(np.quantile(off.difference, _SHOWN)), 1e-3)
    _picture(axes, explanation, off.difference, cmap="magma", vmin=0, vmax=top)
    _bar(axes, axes.images[0], extend="max")
    _mark(axes, layer.here, explanation)
    if brief:
        axes.set_title(f"change without it (mean {off.mean:.2g})")
        return
    _name(
        axes,
        "What if this attention is switched off?",
        f"Change of the enlarged image, in levels of 255: {off.mean:.2g} on average, "
        f"{off.largest:.2g} at most, {off.here:.2g} at the asked pixel.",
    )


def _picture(axes: Axes, explanation: Explanation, pixels: np.ndarray, **style: Any) -> None:
    width, height = explanation.size
    axes.imshow(pixels, extent=(0, width, height, 0), interpolation="nearest", **style)
    _limit(axes, explanation)
    axes.set_xticks([])
    axes.set_yticks([])


def _limit(axes: Axes, explanation: Explanation) -> None:
    width, height = explanation.size
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def _extent(grid: TokenGrid) -> tuple[float, float, float, float]:
    right = grid.left + grid.columns * grid.cell
    return (grid.left, right, grid.top + grid.rows * grid.cell, grid.top)


def _map(
    axes: Axes,
    explanation: Explanation,
    grid: TokenGrid,
    values: np.ndarray,
    colours: str,
    here: Rectangle,
) -> None:
    image = axes.imshow(values, extent=_extent(grid), cmap=colours, interpolation="nearest")
    _limit(axes, explanation)
    axes.set_xticks([])
    axes.set_yticks([])
    _bar(axes, image)
    _mark(axes, here, explanation)


def _mark(axes: Axes, place: Rectangle, explanation: Explanation) -> None:
    """A frame around the asked place, large enough to be seen, in colours that are always seen."""
    from matplotlib.patches import Rectangle as Frame

    side = max(place.width, place.height, max(explanation.size) / 40)
    x, y = place.centre
    for colour, line in (("black", 3.2), (_ASKED, 1.8)):
        frame = Frame((x - side / 2, y - side / 2), side, side, fill=False, ec=colour, lw=line)
        axes.add_patch(frame)


def _thumbnail(
    axes: Axes, explanation: Explanation, place: Rectangle, side: float, colour: str
) -> None:
    from matplotlib.patches import Rectangle as Frame

    _picture(axes, explanation, explanation.image)
    x, y = place.centre
    axes.set_xlim(x - side / 2, x + side / 2)
    axes.set_ylim(y + side / 2, y - side / 2)
    axes.set_facecolor("#DDDDDD")
    corner, wide, high = (place.x, place.y), place.width, place.height
    axes.add_patch(Frame(corner, wide, high, fill=False, ec="black", lw=3.0))
    axes.add_patch(Frame(corner, wide, high, fill=False, ec=colour, lw=1.6))


def _name(axes: Axes, title: str, caption: str) -> None:
    axes.set_title(title, loc="left", fontweight="bold")
    text = "\n".join(textwrap.wrap(caption, _CAPTION))
    axes.set_xlabel(text, loc="left", fontsize=8.5, labelpad=4)


def _bar(axes: Axes, image: Any, **style: Any) -> Any:
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, **style)
    bar.outline.set_linewidth(0)
    bar.ax.tick_params(labelsize=7.5, length=2)
    return bar


def _percent_bar(axes: Axes, image: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    bar = _bar(axes, image)
    bar.ax.yaxis.set_major_locator(LogLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(_tick))
    bar.ax.minorticks_off()


def _percent(share: float) -> str:
    percent = 100 * share
    digits = 0 if percent >= 9.95 else 1
    return f"{percent:.2g} %" if percent < 1 else f"{percent:.{digits}f} %"


def _tick(share: float, _: int | None) -> str:
    return f"{100 * share:.2g} %"


def _one(layer: LayerExplanation) -> str:
    return "pixel" if layer.keys.cell == 1 else "patch"


def _many(layer: LayerExplanation) -> str:
    return "pixels" if layer.keys.cell == 1 else "patches"


def _count(number: int, layer: LayerExplanation) -> str:
    return f"{number:,} {_one(layer) if number == 1 else _many(layer)}"

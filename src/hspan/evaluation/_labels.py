"""Names beside points, none over another or over a point where there is room."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

_DISTANCES = (6, 11, 18, 26, 36, 48)  # from a point to its name, in points: nearest first
_SIDES = ((1, 0), (1, 1), (-1, 0), (-1, 1), (0, 1), (1, -1), (-1, -1), (0, -1))
_MARK = 8.0  # points that a mark takes
_AMBIGUOUS = 26.0  # points around a mark where a name seems to be its own
_ACROSS = {1: "left", 0: "center", -1: "right"}
_UP = {1: "bottom", 0: "center", -1: "top"}


def label_points(
    axes: Axes, points: Sequence[tuple[str, float, float]], *, font_size: float
) -> None:
    """Write names where there is room, with a thin line where that isn't next to the point.

    Call this when everything else has its place: limits, scales and titles. Where no place is free,
    a name goes where it covers least.

    Args:
        axes: of the points, which are drawn already.
        points: name, x and y of each.
        font_size: in points.
    """
    from matplotlib.transforms import Bbox

    figure: Any = axes.figure  # a figure, not a part of one
    figure.draw_without_rendering()
    pixels = figure.dpi / 72  # of a point
    inside = axes.get_window_extent()
    places = [axes.transData.transform((x, y)) for _, x, y in points]

    def around(side: float) -> list[Bbox]:
        half = side * pixels / 2
        return [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in places]

    taken, near = around(_MARK), around(_AMBIGUOUS)
    for i, ((name, x, y), (left, bottom)) in enumerate(zip(points, places, strict=True)):
        text = axes.annotate(name, (x, y), fontsize=font_size)
        size = text.get_window_extent()
        text.remove()
        choices = [
            (side, distance, _box(left, bottom, size, side, distance * pixels))
            for distance, side in product(_DISTANCES, _SIDES)
        ]
        others = near[:i] + near[i + 1 :]
        (across, up), distance, box = min(
            choices, key=lambda c: (_covered(c[2], taken, inside), c[1], _shared(c[2], *others))
        )
        taken.append(box)
        line = {"arrowstyle": "-", "linewidth": 0.4, "color": "0.5", "shrinkA": 0, "shrinkB": 2}
        axes.annotate(
            name,
            (x, y),
            xytext=(across * distance, up * distance),
            textcoords="offset points",
            fontsize=font_size,
            horizontalalignment=_ACROSS[across],
            verticalalignment=_UP[up],
            arrowprops=line if distance > _DISTANCES[0] else None,
        ).set_in_layout(False)


def _box(x: float, y: float, size: Bbox, side: tuple[int, int], distance: float) -> Bbox:
    """Where a name of some size is, in pixels, that lies to one side of a point."""
    from matplotlib.transforms import Bbox

    left = x + side[0] * distance + (side[0] - 1) / 2 * size.width
    bottom = y + side[1] * distance + (side[1] - 1) / 2 * size.height
    return Bbox.from_bounds(left, bottom, size.width, size.height)


def _covered(box: Bbox, taken: Sequence[Bbox], inside: Bbox) -> float:
    """Area that a name would take from others, or have beyond the axes, in square pixels."""
    area = box.width * box.height
    return area - _shared(box, inside) + _shared(box, *taken)


def _shared(box: Bbox, *others: Bbox) -> float:
    shared = 0.0
    for other in others:
        wide = min(box.x1, other.x1) - max(box.x0, other.x0)
        high = min(box.y1, other.y1) - max(box.y0, other.y0)
        shared += max(0.0, wide) * max(0.0, high)
    return shared

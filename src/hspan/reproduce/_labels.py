"""Names beside the points of a scatter plot, placed so that they don't lie on one another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = 6.5  # points
_LETTER = 0.6  # mean width of a letter, over the size of the type
_MARK = 3.5  # points: half the width of a mark
_AIR = 1.5  # points between names side by side
# Where a name goes, in marks from its point: right first, as one reads.
_PLACES = [(1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]


@dataclass(frozen=True)
class _Box:
    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: _Box) -> float:
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, wide) * max(0.0, high)


def place_labels(axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Write names beside points; call it when limits and scales are final.

    Args:
        axes: with the points drawn.
        points: name, x and y in data coordinates.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # pyright: ignore[reportAttributeAccessIssue] (layout is done)
    unit = 72 / figure.dpi  # pixels to points
    spots = [tuple(unit * axes.transData.transform((x, y))) for _, x, y in points]
    frame = axes.get_window_extent()
    inside = _Box(unit * frame.x0, unit * frame.y0, unit * frame.x1, unit * frame.y1)
    taken = [_Box(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y in spots]
    for (name, x, y), spot in zip(points, spots, strict=True):
        chosen, box = min(
            _candidates(name, spot[0], spot[1]), key=lambda c: _cost(c[1], taken, inside, c[2])
        )[:2]
        taken.append(box)
        far = max(abs(chosen[0]), abs(chosen[1])) > 2.5 * _MARK
        axes.annotate(
            name,
            (x, y),
            xytext=chosen,
            textcoords="offset points",
            fontsize=_SIZE,
            ha={1: "left", 0: "center", -1: "right"}[_sign(chosen[0])],
            va={1: "bottom", 0: "center", -1: "top"}[_sign(chosen[1])],
            arrowprops={"arrowstyle": "-", "linewidth": 0.3, "shrinkA": 0} if far else None,
        )


def _candidates(name: str, x: float, y: float) -> Iterable[tuple[tuple[float, float], _Box, float]]:
    """Offsets, the boxes that the name would cover, and how far away each is."""
    wide, high = _LETTER * _SIZE * len(name), 1.15 * _SIZE
    for distance in (1.3, 3.0, 5.0, 8.0):
        for across, up in _PLACES:
            dx, dy = distance * _MARK * across, distance * _MARK * up
            left = x + dx - wide * (1 - across) / 2
            bottom = y + dy - high * (1 - up) / 2
            box = _Box(left - _AIR, bottom, left + wide + _AIR, bottom + high)
            yield (dx, dy), box, distance


def _cost(box: _Box, taken: Sequence[_Box], inside: _Box, distance: float) -> float:
    area = (box.right - box.left) * (box.top - box.bottom)
    outside = area - box.overlap(inside)
    return sum(box.overlap(other) for other in taken) + 3 * outside + distance


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)

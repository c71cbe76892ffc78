"""One look for all pictures: type that can be read in print, colours that stay apart in grey."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hspan.errors import UsageError
from hspan.evaluation.bench_attention import save_figure
from hspan.reproduce._blocks import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.16  # inches: both columns of the journal

# Okabe and Ito.
RED, BLUE, SKY, GREEN, ORANGE, PURPLE, GREY = (
    "#D55E00",
    "#0072B2",
    "#56B4E9",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#666666",
)

# A fixed salt, and no date: the same figure is the same file.
_STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.formatter.useoffset": False,  # 37.625, not 0.005 and a number in the corner
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "svg.hashsalt": "hspan",
    "image.interpolation": "nearest",
}


def check_plotting() -> None:
    """Raise UsageError unless figures can be drawn."""
    if find_spec("matplotlib") is None:
        raise UsageError("figures need matplotlib: pip install 'hspan[plot]'")


@contextmanager
def drawing(height: float, *, width: float = WIDTH) -> Generator[Figure]:
    """A figure in the common style; save it inside.

    Args:
        height: inches.
        width: inches.

    Raises:
        UsageError: matplotlib isn't installed.
    """
    check_plotting()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def save_picture(figure: Figure, folder: Path, stem: str, caption: str) -> Picture:
    """Write ``STEM.png`` and ``STEM.svg``.

    Raises:
        InputError: the folder can't be written.
    """
    for suffix in (".png", ".svg"):
        save_figure(figure, folder / f"{stem}{suffix}", dpi=300, parents=True)
    return Picture(stem, caption)


def light_grid(axes: Axes) -> None:
    """Thin lines behind the data."""
    axes.grid(visible=True, which="major", linewidth=0.3, color="#cccccc")
    axes.set_axisbelow(True)


def log_scale(axes: Axes) -> None:
    """A logarithmic x axis with plain numbers at 1, 2 and 5 of every decade, or at 1 of many."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    steps = (1.0, 2.0, 5.0) if high < 200 * low else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())

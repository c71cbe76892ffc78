"""PSNR as published against parameters (Fig. 9) and against measured time (Fig. 10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hspan.errors import InputError
from hspan.evaluation._labels import label_points
from hspan.evaluation._published import published_row
from hspan.evaluation.bench_attention._plot import check_plot, save_figure
from hspan.evaluation.bench_models._report import ModelCase, ModelResult, ModelsReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OURS = ("hspan", "hspan-s", "hspan-light")


def plot_models(report: ModelsReport, paths: Sequence[Path]) -> None:
    """Draw the first case: parameters against Manga109, and time against Set5.

    Networks that the paper's Table II lacks at this scale are left out.

    Args:
        report: what was measured.
        paths: files to write, .png, .svg or .pdf.

    Raises:
        UsageError: matplotlib isn't installed, or a path can't be a figure.
        InputError: no network has a published score, or a file can't be written.
    """
    for path in paths:
        check_plot(path)
    if not report.cases:
        raise InputError("nothing was measured that could be plotted")
    case = report.cases[0]
    sizes = _points(case, "Manga109", lambda result: (result.parameters or 0) / 1e6)
    times = _points(case, "Set5", lambda result: result.milliseconds or 0)
    if not sizes and not times:
        raise InputError("none of the networks has a score in Table II that could be plotted")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # A fixed salt, and no date below: the same figure is the same file.
    style: Any = {
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "hspan",
    }
    with rc_context(style):
        figure = Figure(figsize=(7.2, 7.6), layout="constrained")
        upper, lower = figure.subplots(2, 1)
        _draw(upper, sizes, "parameters (millions)", f"published PSNR, Manga109 ×{case.scale} (dB)")
        _draw(lower, times, "time (ms)", f"published PSNR, Set5 ×{case.scale} (dB)")
        lower.set_xscale("log")
        threads = report.machine["threads"]
        figure.suptitle(
            f"{case.height}×{case.width} LR pixels, {report.settings['precision']}, "
            f"{report.machine['processor']}, {threads} {'thread' if threads == 1 else 'threads'}",
            fontsize=8,
        )
        label_points(upper, sizes, font_size=7)
        label_points(lower, times, font_size=7)
        for path in paths:
            save_figure(figure, path, dpi=200)


def _points(
    case: ModelCase, dataset: str, quantity: Callable[[ModelResult], float]
) -> list[tuple[str, float, float]]:
    """Name, quantity and PSNR of every network that has both."""
    points: list[tuple[str, float, float]] = []
    for result in case.results:
        row = published_row(result.network, case.scale)
        score = row.score(dataset) if row is not None else None
        value = quantity(result)
        if score is not None and score.psnr is not None and value > 0:
            points.append((result.network, value, score.psnr))
    return points


def _draw(axes: Axes, points: list[tuple[str, float, float]], x: str, y: str) -> None:
    for name, value, psnr in points:
        colour, mark, size = ("#D55E00", "*", 9) if name in _OURS else ("#0072B2", "o", 5)
        axes.plot(value, psnr, mark, color=colour, markersize=size)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, which="major", linewidth=0.3)
    axes.margins(0.12)

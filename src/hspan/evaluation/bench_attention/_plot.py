"""Time and memory against the number of tokens, log-log, every method a line."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hspan._whole_files import new_file
from hspan.errors import InputError, UsageError
from hspan.evaluation.bench_attention._methods import METHODS, OURS
from hspan.evaluation.bench_attention._report import AttentionReport, Case

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")

# Colours that stay apart for the colour-blind and in grey (Okabe and Ito), and a mark for each.
_STYLES = {
    OURS: ("#D55E00", "o", "-"),
    "released": ("#000000", "s", "-"),
    "sdpa-fp32": ("#0072B2", "^", "-"),
    "sdpa-bf16": ("#56B4E9", "v", "-"),
    "tiles": ("#CC79A7", "P", "-"),
    "screened": ("#E69F00", "D", "-"),
    "product-fp32": ("#777777", "x", ":"),
    "product-bf16": ("#AAAAAA", "+", ":"),
    "hspan-portable": ("#D55E00", "1", "--"),
    "hspan-avx2": ("#D55E00", "2", "--"),
    "hspan-avx512": ("#D55E00", "3", "--"),
    "hspan-avx512_bf16": ("#D55E00", "4", "--"),
    "hspan-amx": ("#D55E00", "*", "--"),
}


def check_plot(path: Path) -> None:
    """Raise UsageError unless a figure can be drawn and written there."""
    if find_spec("matplotlib") is None:
        raise UsageError("a plot needs matplotlib: pip install 'hspan[plot]'")
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"a plot is written as {', '.join(SUFFIXES)}, got {path.name!r}")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} for the plot")


def plot_attention(
    report: AttentionReport, paths: Sequence[Path], *, cases: Sequence[Case] | None = None
) -> None:
    """Draw time, and memory where it was measured, against the number of tokens.

    Hollow marks are extrapolated times. Lines of methods that were never measured are left out.

    Args:
        report: gives the machine under the figure.
        paths: files to write, .png, .svg or .pdf.
        cases: of one input and direction, at several numbers of tokens; None takes those of the
            report's first.

    Raises:
        UsageError: matplotlib isn't installed, or a path can't be a figure.
        InputError: no case was measured, or a file can't be written.
    """
    for path in paths:
        check_plot(path)
    chosen = [case for case in (cases or alike(report.cases)) if case.skipped is None]
    if not chosen:
        raise InputError("nothing was measured that could be plotted")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    weighed = any(r.extra_mib for case in chosen for r in case.results)
    # A fixed salt, and no date below: the same figure is the same file.
    style: Any = {
        "font.size": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.hashsalt": "hspan",
    }
    with rc_context(style):
        figure = Figure(figsize=(7.2 if weighed else 4.2, 3.6), layout="constrained")
        axes = figure.subplots(1, 2 if weighed else 1, squeeze=False)[0]
        _draw(axes[0], chosen, "milliseconds", "time (ms)")
        if weighed:
            _draw(axes[1], chosen, "extra_mib", "peak extra memory (MiB)")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        extrapolated = any(r.extrapolated for case in chosen for r in case.results)
        figure.suptitle(_title(chosen[0], report, extrapolated), fontsize=8)
        for path in paths:
            save_figure(figure, path, dpi=200)


def alike(cases: Sequence[Case], first: Case | None = None) -> list[Case]:
    """Those that differ from ``first``, the first of all by default, in their tokens only.

    Of several with one number of tokens, the first.
    """
    measured = [case for case in cases if case.skipped is None]
    if not measured:
        return []
    line = _line(first or measured[0])
    chosen: dict[int, Case] = {}
    for case in measured:
        if _line(case) == line:
            chosen.setdefault(case.tokens, case)
    return list(chosen.values())


def _line(case: Case) -> tuple[object, ...]:
    return case.features, case.direction, case.target_support, case.value_channels


def _draw(axes: Axes, cases: Sequence[Case], quantity: str, label: str) -> None:
    for name in METHODS:
        points: list[tuple[int, float, bool]] = []
        for case in cases:
            result = case.result(name)
            value = None if result is None else getattr(result, quantity)
            if result is not None and value:  # a few tokens take no memory that could be seen
                hollow = result.extrapolated and quantity == "milliseconds"
                points.append((case.tokens, value, hollow))
        if not points:
            continue
        points.sort()
        colour, mark, dash = _STYLES[name]
        tokens, values, _ = zip(*points, strict=True)
        axes.plot(
            tokens,
            values,
            color=colour,
            linestyle=dash,
            linewidth=2.0 if name == OURS else 1.0,
            marker=mark,
            markersize=4.5,
            label=METHODS[name].title,
            zorder=3 if name == OURS else 2,
        )
        for x, y, hollow in points:
            if hollow:
                axes.plot(x, y, mark, color=colour, markersize=4.5, mfc="white", zorder=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted({case.tokens for case in cases})
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks], rotation=30)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("tokens N")
    axes.set_ylabel(label)
    axes.grid(visible=True, which="major", linewidth=0.3)


def _title(case: Case, report: AttentionReport, extrapolated: bool) -> str:
    support = "" if case.support is None else f", mean support T ≈ {case.support:.0f}"
    machine = report.machine
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    hollow = "; hollow: scaled from some of the queries"
    return (
        f"{case.direction}, {case.features} features, Q and K of {case.query_channels} channels, "
        f"V of {case.value_channels}{support}\n"
        f"{machine['processor']}, {threads}{hollow if extrapolated else ''}"
    )


def save_figure(figure: Figure, path: Path, *, dpi: int, parents: bool = False) -> None:
    """Write a figure, without the date, so that the same one is the same file.

    Args:
        figure: of matplotlib.
        path: the file to write, of one of `SUFFIXES`.
        dpi: pixels per inch, of PNG.
        parents: make the folders above it that don't exist yet.

    Raises:
        InputError: the file can't be written.
    """
    form = path.suffix.lower()
    date = {".svg": "Date", ".pdf": "CreationDate"}.get(form)
    with new_file(path, parents=parents) as temporary:
        figure.savefig(temporary, format=form[1:], dpi=dpi, metadata={date: None} if date else None)

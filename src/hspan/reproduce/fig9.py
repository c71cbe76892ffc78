"""Fig. 9: parameters against PSNR, published and measured, marked apart.

Parameters are counted from the networks themselves, PSNR of hollow marks is Table II's, PSNR of
filled marks is measured here with the weights at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hspan.errors import InputError, UsageError
from hspan.evaluation import model_costs, published_row
from hspan.evaluation._labels import label_points
from hspan.models import list_models
from hspan.reproduce._benchmarks import Dataset, find_dataset
from hspan.reproduce._blocks import Cell, Picture, Table, Text, cells, count, number
from hspan.reproduce._contestants import find_contestants
from hspan.reproduce._figures import BLUE, RED, drawing, light_grid, log_scale, save_picture
from hspan.reproduce._job import Job
from hspan.reproduce._report import Report, described
from hspan.reproduce._scores import score


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Fig. 9, a panel for each pair.

    Attributes:
        scales: upscaling factors.
        datasets: as many.
        models: for each, the networks with published points; none stands for all.
    """

    scales: tuple[int, ...]
    datasets: tuple[str, ...]
    models: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Point:
    """One network: its trainable parameters, and a PSNR in dB that is published or measured."""

    network: str
    parameters: int
    psnr: float
    source: str


def run(job: Job) -> Report:
    """Count, look up, measure."""
    s = job.settings(Settings)
    if not len(s.scales) == len(s.datasets) == len(s.models):
        raise UsageError("fig9 wants as many datasets and lists of models as scales")
    panels: list[tuple[int, str, list[Point]]] = []
    used: list[Dataset] = []
    absent: list[str] = []
    for scale, name, models in zip(s.scales, s.datasets, s.models, strict=True):
        points = _published(scale, name, models)
        try:
            dataset = find_dataset(job.benchmarks(), name, scale)
        except (InputError, UsageError):
            absent.append(f"{name} ×{scale}")
        else:
            used.append(dataset)
            points += _measured(job, dataset, scale)
        panels.append((scale, name, points))
    text = (
        "Hollow: PSNR as published in Table II. Filled: measured here with weights at hand. "
        "Parameters are trainable ones, counted from the networks built here. Give checkpoints "
        "with `--weights` to fill more marks."
    )
    if absent:
        text += f" Not at hand, so without measurements: {', '.join(absent)}."
    return Report(
        title="Fig. 9: parameters against PSNR",
        settings=s,
        blocks=(Text(text), _draw(job, panels), *(_table(*panel) for panel in panels)),
        results={
            f"{name}_x{scale}": [asdict(point) for point in points]
            for scale, name, points in panels
        },
        data=described(*used),
    )


def _published(scale: int, dataset: str, models: Sequence[str]) -> list[Point]:
    """Networks of Table II that are built here, each once."""
    points: list[Point] = []
    for name in models or list_models():
        row, cost = published_row(name, scale), model_costs(name).get(scale)
        paper = row.score(dataset) if row is not None else None
        if cost is not None and paper is not None and paper.psnr is not None:
            points.append(Point(name, cost.parameters, paper.psnr, "published"))
    return [point for point in points if point.parameters]  # bicubic has none


def _measured(job: Job, dataset: Dataset, scale: int) -> list[Point]:
    networks, _ = find_contestants(job, scale)
    return [
        Point(each.title, each.parameters, score(job, each, dataset, scale).psnr, "measured")
        for each in networks
    ]


def _table(scale: int, name: str, points: Sequence[Point]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for point in sorted(points, key=lambda p: (p.parameters, p.source)):
        strong = point.source == "measured"
        psnr = number(point.psnr, 2, strong=strong)
        rows.append(cells(point.network, count(point.parameters), psnr, point.source))
    header = ("network", "parameters", "PSNR", "source")
    return Table(f"fig9_x{scale}_{name}", f"{name} ×{scale}", header, tuple(rows))


def _draw(job: Job, panels: Sequence[tuple[int, str, list[Point]]]) -> Picture:
    with drawing(3.3) as figure:
        layout: Any = figure.get_layout_engine()
        layout.set(w_pad=0.08)
        for axes, (scale, name, points) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            for point in points:
                ours = point.network.startswith("hspan")
                axes.plot(
                    point.parameters / 1e6,
                    point.psnr,
                    "*" if ours else "o",
                    color=RED if ours else BLUE,
                    markersize=8 if ours else 4.5,
                    markerfacecolor=None if point.source == "measured" else "white",
                )
            sizes = [point.parameters for point in points]
            if max(sizes) > 20 * min(sizes):
                log_scale(axes)
            axes.margins(0.14)
            axes.set_xlabel("parameters (millions)")
            axes.set_ylabel(f"PSNR, {name} ×{scale} (dB)")
            light_grid(axes)
            # Published and measured marks of a network lie together: one name is enough.
            labels = {p.network: (p.network, p.parameters / 1e6, p.psnr) for p in points}
            label_points(axes, list(labels.values()), font_size=6.5)
        figure.legend(handles=marks(), loc="outside lower center", ncols=3)
        return save_picture(
            figure, job.folder, "fig9", "Fig. 9: parameters against PSNR, published and measured."
        )


def marks() -> list[Any]:
    """What the marks of Figs. 9 and 10 mean, for a legend."""
    from matplotlib.lines import Line2D

    plain: Any = {"linestyle": "", "markersize": 5}
    return [
        Line2D([], [], marker="o", color=BLUE, mfc="white", label="PSNR published", **plain),
        Line2D([], [], marker="o", color=BLUE, label="PSNR measured here", **plain),
        Line2D([], [], marker="*", color=RED, mfc="white", label="HSPAN and kin", **plain),
    ]

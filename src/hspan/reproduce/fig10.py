"""Fig. 10: inference time against PSNR. Times are measured here; PSNR is marked by its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hspan.errors import HspanError, InputError, UsageError
from hspan.evaluation import published_row
from hspan.evaluation._labels import label_points
from hspan.evaluation.bench_models import ModelResult, ModelSettings, bench_models
from hspan.reproduce._benchmarks import find_dataset
from hspan.reproduce._blocks import Cell, Picture, Table, Text, cells, count, number, plural
from hspan.reproduce._contestants import find_contestants
from hspan.reproduce._figures import BLUE, RED, drawing, light_grid, log_scale, save_picture
from hspan.reproduce._job import Job
from hspan.reproduce._report import Report
from hspan.reproduce._scores import score
from hspan.reproduce.fig9 import marks


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Fig. 10.

    Attributes:
        scale: upscaling factor.
        dataset: of the PSNR.
        size: height and width of the LR image that is timed.
        models: names in the registry.
        seconds: for all timings together; a network that would take more than its share is left
            out, with the reason.
        hspan_s_above_nlsn: dB by which Section IV-D puts HSPAN-S above NLSN; no table has its row.
    """

    scale: int
    dataset: str
    size: tuple[int, ...]
    models: tuple[str, ...]
    seconds: float
    hspan_s_above_nlsn: float


@dataclass(frozen=True)
class Point:
    """One network: its time, and a PSNR in dB from ``source``."""

    network: str
    parameters: int | None
    milliseconds: float | None
    psnr: float | None
    source: str
    remark: str


def run(job: Job) -> Report:
    """Time the networks in turn, look up or measure their PSNR."""
    s = job.settings(Settings)
    if len(s.size) != 2:
        raise UsageError(f"size must be height and width, got {list(s.size)}")
    settings = ModelSettings(
        models=s.models,
        scale=s.scale,
        sizes=((s.size[0], s.size[1]),),
        device=job.device,
        budget=s.seconds,
    )
    report = bench_models(settings, say=lambda line: job.say(f"fig10: {line}"))
    measured = _measured(job, s)
    points = [_point(result, s, measured) for result in report.cases[0].results]
    if all(point.milliseconds is None for point in points):
        raise InputError(f"no network runs within its share of {s.seconds:g} s; give more seconds")
    if all(point.milliseconds is None or point.psnr is None for point in points):
        raise InputError(
            f"of the networks that ran, none has a PSNR on {s.dataset} ×{s.scale}, published or "
            "measured; choose others, or give weights"
        )
    machine = report.machine
    threads = plural(machine["threads"], "thread")
    height, width = s.size[:2]
    text = (
        f"Time of one LR image of {height}×{width} pixels at ×{s.scale}, float32, "
        f"{machine['processor']}, {threads}: networks alternate in one process, "
        "medians. Networks have random weights, which changes nothing but the attention of "
        "HSPAN: how sparse it is depends on the weights. PSNR of hollow marks is published, of "
        "filled ones measured here. The paper timed on a GPU; the order on a processor can differ."
    )
    return Report(
        title="Fig. 10: inference time against PSNR",
        settings=s,
        blocks=(Text(text), _draw(job, points, s), _table(points, s)),
        results={"points": [asdict(p) for p in points], "machine": machine},
    )


def _measured(job: Job, s: Settings) -> dict[str, float]:
    """PSNR with the weights at hand; empty where there are none, or no images."""
    try:
        dataset = find_dataset(job.benchmarks(), s.dataset, s.scale)
    except HspanError:
        return {}
    networks, _ = find_contestants(job, s.scale)
    return {each.name: score(job, each, dataset, s.scale).psnr for each in networks}


def _point(result: ModelResult, s: Settings, measured: dict[str, float]) -> Point:
    name = result.network
    psnr, source, remark = measured.get(name), "measured", result.skipped or ""
    if psnr is None:
        row = published_row("nlsn" if name == "hspan-s" else name, s.scale)
        paper = row.score(s.dataset) if row is not None else None
        psnr, source = paper.psnr if paper is not None else None, "published"
        if name == "hspan-s" and psnr is not None:
            psnr += s.hspan_s_above_nlsn
            remark = remark or f"NLSN's and {s.hspan_s_above_nlsn:g} dB, Section IV-D"
    return Point(name, result.parameters, result.milliseconds, psnr, source, remark)


def _table(points: Sequence[Point], s: Settings) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for p in sorted(points, key=lambda p: (p.milliseconds is None, p.milliseconds or 0)):
        rows.append(
            cells(
                p.network,
                count(p.parameters),
                number(p.milliseconds, 0),
                number(p.psnr, 2, strong=p.source == "measured"),
                p.source if p.psnr is not None else "–",
                p.remark or "–",
            )
        )
    header = ("network", "parameters", "ms", f"PSNR, {s.dataset} ×{s.scale}", "source", "remark")
    return Table("fig10", "Time measured here, and PSNR", header, tuple(rows))


def _draw(job: Job, points: Sequence[Point], s: Settings) -> Picture:
    known = [
        (p, p.milliseconds, p.psnr)
        for p in points
        if p.milliseconds is not None and p.psnr is not None
    ]
    with drawing(3.2, width=5.0) as figure:
        axes = figure.subplots()
        for p, milliseconds, psnr in known:
            ours = p.network.startswith("hspan")
            style: dict[str, Any] = {"color": RED if ours else BLUE}
            if p.source == "published":
                style["markerfacecolor"] = "white"
            axes.plot(milliseconds, psnr, "*" if ours else "o", ms=8 if ours else 4.5, **style)
        log_scale(axes)
        axes.margins(0.12)
        axes.set_xlabel(f"time of a {s.size[0]}×{s.size[1]} LR image (ms)")
        axes.set_ylabel(f"PSNR, {s.dataset} ×{s.scale} (dB)")
        light_grid(axes)
        label_points(axes, [(p.network, x, y) for p, x, y in known], font_size=6.5)
        figure.legend(handles=marks(), loc="outside lower center", ncols=3)
        return save_picture(
            figure, job.folder, "fig10", "Fig. 10: time measured here against PSNR."
        )

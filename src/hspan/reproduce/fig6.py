"""Fig. 6: PSNR and time against k, the number of similar features that take part.

One trained network is evaluated with every k; nothing is trained again. k = 0 leaves HSPA out;
``topk=k`` truncates to the k largest scores; "exact" lets soft thresholding find the support by
itself, as the authors' program does whatever its k is: it solves rows whose support reaches k again
with 2k.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from hspan.data import find_pairs, load_pair
from hspan.errors import UsageError
from hspan.evaluation.bench_attention._machine import describe_machine
from hspan.hardware import choose_device
from hspan.models import registry_name
from hspan.modules import HSPA
from hspan.reproduce._attention import support_sizes
from hspan.reproduce._benchmarks import Dataset, find_dataset
from hspan.reproduce._blocks import Cell, Picture, Table, Text, cells, number, plural
from hspan.reproduce._contestants import Contestant
from hspan.reproduce._figures import BLUE, GREY, RED, drawing, light_grid, save_picture
from hspan.reproduce._job import Job
from hspan.reproduce._report import Report, described
from hspan.reproduce._scores import score
from hspan.weights import load_model, weights_hash

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEAST_RANGE = 0.02  # dB on the axis
_PUBLISHED_PEAK = 128  # where the published curve has its maximum (Section IV-C2)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Fig. 6.

    Attributes:
        model: a shipped weight's name, or a checkpoint, with HSPA in it.
        scale: upscaling factor.
        datasets: scored.
        timed: data set whose images are timed.
        topk: values of k; exact is added.
        repetitions: of every timing; the shortest counts, as other programs only add to it.
    """

    model: str
    scale: int
    datasets: tuple[str, ...]
    timed: str
    topk: tuple[int, ...]
    repetitions: int


@dataclass(frozen=True)
class Point:
    """One k: PSNR by data set, and the time of one image.

    Attributes:
        k: None is exact.
        psnr: dB, by data set.
        milliseconds: of an image, the mean over images; the shortest of the repetitions.
        cut: share of the queries whose exact support is larger than k.
    """

    k: int | None
    psnr: dict[str, float]
    milliseconds: float
    cut: float

    @property
    def label(self) -> str:
        """On axes and in tables."""
        return "exact" if self.k is None else str(self.k)


def run(job: Job) -> Report:
    """Score and time every k."""
    s = job.settings(Settings)
    if not (s.topk and s.datasets and s.repetitions > 0):
        raise UsageError("fig6 needs at least one k, one data set and one repetition")
    network = load_model(s.model, scale=s.scale, device="cpu").eval()
    blocks = [module for module in network.modules() if isinstance(module, HSPA)]
    if not blocks:
        raise UsageError(f"{s.model} holds no HSPA; fig6 needs a network with one")
    datasets = [find_dataset(job.benchmarks(), name, s.scale) for name in s.datasets]
    timed = find_dataset(job.benchmarks(), s.timed, s.scale)
    ks = [*s.topk, None]
    plain = Contestant(registry_name(network), registry_name(network), network, "", s.model)
    weights = weights_hash(network)
    psnr = {
        k: _scores(job, replace(plain, weights=f"{weights}-k{k}"), blocks, k, datasets, s.scale)
        for k in ks
    }
    images = _images(timed, s.scale)
    _set(blocks, None)
    sizes = np.concatenate([support_sizes(network, image) for image in images])
    job.say("fig6: timing")
    milliseconds = _time(job, network, blocks, images, ks, s.repetitions)
    points = [
        Point(k, psnr[k], milliseconds[k], 0.0 if k is None else float((sizes > k).mean()))
        for k in ks
    ]
    tokens = sizes.size // (len(images) * len(blocks))
    return Report(
        title="Fig. 6: PSNR and time against k",
        settings=s,
        blocks=(
            Text(_finding(points, plain.title, s, sizes, tokens)),
            _draw(job, points, s),
            _table(points, s),
        ),
        results={
            "points": [asdict(point) for point in points],
            "mean_support": float(sizes.mean()),
            "largest_support": int(sizes.max()),
            "weights": weights,
        },
        data=described(*datasets, timed),
    )


def _set(blocks: Sequence[HSPA], k: int | None) -> None:
    for block in blocks:
        block.topk = k


def _scores(
    job: Job,
    contestant: Contestant,
    blocks: Sequence[HSPA],
    k: int | None,
    datasets: Sequence[Dataset],
    scale: int,
) -> dict[str, float]:
    _set(blocks, k)
    titled = replace(contestant, title=f"{contestant.title}, k = {'exact' if k is None else k},")
    return {each.name: score(job, titled, each, scale).psnr for each in datasets}


def _images(dataset: Dataset, scale: int) -> list[np.ndarray]:
    """LR, [H, W, 3], uint8."""
    pairs = find_pairs(dataset.folder, scale)
    return [np.ascontiguousarray(load_pair(pair, scale)[1]) for pair in pairs]


def _time(
    job: Job,
    network: nn.Module,
    blocks: Sequence[HSPA],
    images: Sequence[np.ndarray],
    ks: Sequence[int | None],
    repetitions: int,
) -> dict[int | None, float]:
    """All k in turn, every round beginning with another one, after a warm-up."""
    device = choose_device(job.device)
    network.to(device)
    inputs = [torch.from_numpy(x).to(device).permute(2, 0, 1)[None] / 255 for x in images]
    seconds: dict[int | None, list[float]] = {k: [] for k in ks}
    for turn in range(repetitions + 1):
        start = turn % len(ks)
        for k in [*ks[start:], *ks[:start]]:
            _set(blocks, k)
            begin = time.perf_counter()
            with torch.inference_mode():
                for image in inputs:
                    network(image)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:
                seconds[k].append(time.perf_counter() - begin)
    network.to("cpu")
    return {k: 1000 * min(times) / len(images) for k, times in seconds.items()}


def _finding(
    points: Sequence[Point], title: str, s: Settings, sizes: np.ndarray, tokens: int
) -> str:
    first = s.datasets[0]
    exact = points[-1]
    cut = [point for point in points if point.k is not None]
    best = max(cut, key=lambda point: point.psnr[first])
    span = max(p.psnr[first] for p in points) - min(p.psnr[first] for p in points)
    sentence = f"`{title}` ×{s.scale} with its trained weights, k changed at test time. "
    if points[0].k == 0:
        gain = exact.psnr[first] - points[0].psnr[first]
        sentence += (
            f"On {first}, exact soft thresholding is worth {gain:+.3f} dB over leaving HSPA out "
            "(k = 0). "
        )
    sentence += (
        f"The best k is {best.k} ({best.psnr[first]:.3f} dB, exact {exact.psnr[first]:.3f}), and "
        f"the whole curve spans {span:.3f} dB; the published curve, of a network that was trained "
        f"with truncation, has its maximum at k = {_PUBLISHED_PEAK}. "
    )
    return sentence + (
        f"The exact support is {sizes.mean():.1f} on average and {int(sizes.max())} at "
        f"most, of {tokens:,} features on average. The authors' program is exact, whatever its k. "
        f"Time is of one image of {s.timed} on average, in float32 on "
        f"{describe_machine()['processor']}, {plural(torch.get_num_threads(), 'thread')}."
    )


def _table(points: Sequence[Point], s: Settings) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for point in points:
        psnr = [number(point.psnr[name], 3) for name in s.datasets]
        cut = Cell(f"{point.cut:.1%}", point.cut)
        rows.append(cells(point.label, *psnr, number(point.milliseconds, 1), cut))
    header = ("k", *(f"{name} PSNR" for name in s.datasets), "ms per image", "rows truncated")
    return Table("fig6", "PSNR in dB and time against k", header, tuple(rows))


def _draw(job: Job, points: Sequence[Point], s: Settings) -> Picture:
    labels = [point.label for point in points]
    places = range(len(points))
    with drawing(2.5) as figure:
        left, right = figure.subplots(1, 2)
        for name, colour, mark in zip(s.datasets, (RED, BLUE, GREY, "black"), "osD^", strict=False):
            values = [point.psnr[name] for point in points]
            left.plot(places[:-1], values[:-1], f"-{mark}", ms=3.5, color=colour, label=name)
            left.plot(places[-1], values[-1], mark, ms=5, color=colour, mfc="white")
            left.axhline(values[-1], color=colour, linestyle=":", linewidth=0.7)
        if str(_PUBLISHED_PEAK) in labels:
            place = labels.index(str(_PUBLISHED_PEAK))
            left.axvline(place, color=GREY, linestyle="--", linewidth=0.8, label="published peak")
        _widen(left)
        left.set_ylabel(f"PSNR ×{s.scale} (dB)")
        left.legend(loc="lower right", frameon=True, edgecolor="none", framealpha=1)
        times = [point.milliseconds for point in points]
        right.plot(places[:-1], times[:-1], "-o", ms=3.5, color=RED, label="truncated to k")
        right.plot(places[-1], times[-1], "o", ms=5, color=RED, mfc="white", label="exact")
        right.set_ylim(0, 1.15 * max(times))
        right.set_ylabel(f"time per image of {s.timed} (ms)")
        right.legend(loc="lower right")
        for axes in (left, right):
            axes.set_xticks(places, labels)
            axes.set_xlabel("k")
            light_grid(axes)
        return save_picture(
            figure,
            job.folder,
            "fig6",
            "Fig. 6: PSNR and time of one trained network against k. Hollow: exact, without any "
            "truncation; dotted: its PSNR.",
        )


def _widen(axes: Axes) -> None:
    """Show a curve that hardly rises as one that hardly rises."""
    low, high = axes.get_ylim()
    missing = _LEAST_RANGE - (high - low)
    if missing > 0:
        axes.set_ylim(low - missing / 2, high + missing / 2)

"""Tables II and III: every published row, and beside it what the weights at hand score here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from hspan.evaluation import published_row, published_rows
from hspan.reproduce._benchmarks import Dataset, find_datasets
from hspan.reproduce._blocks import Block, Cell, Table, Text, cells, number
from hspan.reproduce._contestants import BICUBIC, Contestant, find_contestants
from hspan.reproduce._job import Job
from hspan.reproduce._report import Report, described
from hspan.reproduce._scores import Grey, Kind, Scored, score

_GREY_SENTENCE = (
    "**Two rules for grey images.** One image of Set14 has a single channel. The programs that the "
    "networks' rows come from replicate it to RGB and take Y of that, which maps grey values from "
    "[0, 255] to [16, 235]; the error shrinks by 219/255 and the PSNR of that image rises by "
    "1.32 dB. The tables' Bicubic rows descend from older MATLAB scripts that score it on its grey "
    "values. So Bicubic's Set14 is comparable under `raw`, every network's under `replicate`; "
    "elsewhere the two agree. Set beside bicubic in one table, networks gain about 0.09 dB on "
    "Set14 from the change of rule alone."
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Tables II and III.

    Attributes:
        scales: upscaling factors.
        datasets: that bicubic is scored on, and columns of the table.
        network_datasets: that networks are scored on.
        psnr_tolerance: dB; larger differences of the bicubic rows are marked.
        ssim_tolerance: the same for SSIM.
    """

    scales: tuple[int, ...]
    datasets: tuple[str, ...]
    network_datasets: tuple[str, ...]
    psnr_tolerance: float
    ssim_tolerance: float


@dataclass(frozen=True)
class Measured:
    """One contestant at one scale under one rule for grey images."""

    contestant: Contestant
    scale: int
    grey: Grey
    scores: Mapping[str, Scored]


def compare(job: Job, kind: Kind, number_of_table: str) -> Report:
    """Measure everything at hand, and set it beside the published rows."""
    s = job.settings(Settings)
    measured: list[Measured] = []
    notes: dict[str, str] = {}
    datasets: dict[str, Dataset] = {}
    missing: list[str] = []
    for scale in s.scales:
        found, missing = find_datasets(job.benchmarks(), s.datasets, scale, kind)
        datasets |= {dataset.name: dataset for dataset in found}
        networks, refused = find_contestants(job, scale, kind)
        notes |= {file: f"×{scale}: {reason}" for file, reason in refused.items()}
        few = [dataset for dataset in found if dataset.name in s.network_datasets]
        measured.append(_measure(job, BICUBIC, found, scale, kind, "replicate"))
        if any(dataset.name == "Set14" for dataset in found):
            grey = [dataset for dataset in found if dataset.name == "Set14"]
            measured.append(_measure(job, BICUBIC, grey, scale, kind, "raw"))
        measured += [_measure(job, each, few, scale, kind, "replicate") for each in networks]
    for each in measured:
        notes.pop(each.contestant.origin, None)  # a file of one scale can't be used at the others
    blocks: list[Block] = [Text(_verdict(measured, s, kind)), Text(_GREY_SENTENCE)]
    if missing:
        blocks.append(Text(f"Not at hand, so published only: {', '.join(missing)}."))
    blocks += [_table(scale, kind, s, measured, number_of_table) for scale in s.scales]
    blocks.append(_differences(measured, s, kind, number_of_table))
    blocks += [Text(f"`{file}` wasn't used. {reason}") for file, reason in notes.items()]
    return Report(
        title=f"Table {number_of_table}: {kind} degradation, published and measured",
        settings=s,
        blocks=tuple(blocks),
        results={
            "measured": [
                {
                    "model": each.contestant.name,
                    "weights": each.contestant.weights,
                    "origin": each.contestant.origin,
                    "scale": each.scale,
                    "grey": each.grey,
                    "scores": {name: asdict(scored) for name, scored in each.scores.items()},
                }
                for each in measured
            ]
        },
        data=described(*datasets.values()),
    )


def _measure(
    job: Job,
    contestant: Contestant,
    datasets: Sequence[Dataset],
    scale: int,
    kind: Kind,
    grey: Grey,
) -> Measured:
    scores = {d.name: score(job, contestant, d, scale, kind, grey) for d in datasets}
    return Measured(contestant, scale, grey, scores)


def _comparable(each: Measured, dataset: str) -> bool:
    """Whether the published row follows the same rule for the one grey image."""
    return dataset != "Set14" or (each.grey == "raw") == (each.contestant is BICUBIC)


def _pairs(measured: Sequence[Measured], kind: Kind) -> list[tuple[Measured, str, float, float]]:
    """What can be compared: with differences of PSNR and SSIM, measured less published."""
    pairs: list[tuple[Measured, str, float, float]] = []
    for each in measured:
        row = published_row(each.contestant.name, each.scale, kind)
        for name, scored in each.scores.items():
            paper = row.score(name) if row is not None else None
            if paper is None or paper.psnr is None or paper.ssim is None:
                continue
            if _comparable(each, name):
                pairs.append((each, name, scored.psnr - paper.psnr, scored.ssim - paper.ssim))
    return pairs


def _large(psnr: float, ssim: float, s: Settings) -> tuple[bool, bool]:
    """Published numbers are rounded, to half a unit of their last digit."""
    return abs(psnr) > s.psnr_tolerance + 0.005, abs(ssim) > s.ssim_tolerance + 0.00005


def _verdict(measured: Sequence[Measured], s: Settings, kind: Kind) -> str:
    pairs = [(p, q) for each, _, p, q in _pairs(measured, kind) if each.contestant is BICUBIC]
    off = sum(any(_large(psnr, ssim, s)) for psnr, ssim in pairs)
    largest = max((abs(psnr) for psnr, _ in pairs), default=0.0)
    largest_ssim = max((abs(ssim) for _, ssim in pairs), default=0.0)
    within = f"within {s.psnr_tolerance:g} dB and {s.ssim_tolerance:g} SSIM"
    first = f"Bicubic: all {len(pairs)} published scores are met {within}"
    if off:
        first = f"Bicubic: **{off} of {len(pairs)} published scores aren't met {within}**"
    names = sorted({m.contestant.title for m in measured if m.contestant is not BICUBIC})
    return (
        f"{first} (largest differences {largest:.3f} dB and {largest_ssim:.4f}; Set14 under "
        f"`raw`). Networks with weights at hand: {', '.join(names) or 'none'}. Scores are PSNR in "
        "dB and SSIM on Y; rows in bold are measured here, all others are as published."
    )


def _table(
    scale: int, kind: Kind, s: Settings, measured: Sequence[Measured], number_of_table: str
) -> Table:
    at_scale = [each for each in measured if each.scale == scale]
    rows: list[tuple[Cell, ...]] = []
    placed: set[int] = set()
    for row in published_rows(scale, kind):
        values: list[Cell] = []
        for name in s.datasets:
            paper = row.score(name)
            values += [number(paper and paper.psnr, 2), number(paper and paper.ssim, 4)]
        rows.append(cells(row.method, "published", *values))
        for i, each in enumerate(at_scale):
            own = published_row(each.contestant.name, scale, kind)
            if own is not None and own.method == row.method:
                rows.append(_measured_row(each, s))
                placed.add(i)
    rows += [_measured_row(each, s) for i, each in enumerate(at_scale) if i not in placed]
    columns = [f"{name} {metric}" for name in s.datasets for metric in ("PSNR", "SSIM")]
    return Table(
        f"table{len(number_of_table)}_x{scale}",
        f"Table {number_of_table}, ×{scale} {kind}",
        ("method", "source", *columns),
        tuple(rows),
    )


def _measured_row(each: Measured, s: Settings) -> tuple[Cell, ...]:
    values: list[Cell] = []
    for name in s.datasets:
        scored = each.scores.get(name)
        values.append(number(scored and scored.psnr, 2, strong=True))
        values.append(number(scored and scored.ssim, 4, strong=True))
    rule = ", grey raw" if each.grey == "raw" else ""
    return cells(Cell(each.contestant.title, strong=True), f"measured{rule}", *values)


def _differences(
    measured: Sequence[Measured], s: Settings, kind: Kind, number_of_table: str
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for each, name, psnr, ssim in _pairs(measured, kind):
        bicubic = each.contestant is BICUBIC
        large = _large(psnr, ssim, s) if bicubic else (abs(psnr) > 0.1, abs(ssim) > 0.005)
        scored = each.scores[name]
        rows.append(
            cells(
                each.contestant.title,
                f"×{each.scale}",
                name,
                each.grey if name == "Set14" else "–",
                number(scored.psnr, 2),
                number(psnr, 3, sign=True, strong=large[0]),
                number(scored.ssim, 4),
                number(ssim, 4, sign=True, strong=large[1]),
            )
        )
    return Table(
        f"table{len(number_of_table)}_differences",
        "Measured less published; in bold what is beyond the tolerance for bicubic, or beyond "
        "0.1 dB and 0.005 for a network",
        ("method", "scale", "data set", "grey", "PSNR", "less published", "SSIM", "less published"),
        tuple(rows),
    )

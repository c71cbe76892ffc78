"""Table I: what LEB, NLA and HSPA contribute, each switched on or off in one backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hspan.errors import UsageError
from hspan.evaluation._published import published_ablation
from hspan.reproduce._benchmarks import find_dataset
from hspan.reproduce._blocks import Cell, Picture, Table, Text, cells, count, number, plural
from hspan.reproduce._figures import BLUE, GREY, RED, drawing, light_grid, save_picture
from hspan.reproduce._job import Job
from hspan.reproduce._report import Report, described
from hspan.reproduce._statistics import mean_and_spread, order_sentence, paired
from hspan.reproduce._training import Trained, Trainer, crop_sentence, setting_sentence


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Table I.

    Attributes:
        seeds: one run of every variant for each.
        validation: data set that runs are scored on.
        crop: HR pixels per side, in the middle of each image, that are scored; 0 is all.
        recipe: of every run, as a recipe's tables.
        variants: keys of ``[model]`` by the variant's name in the published table.
    """

    seeds: tuple[int, ...]
    validation: str
    crop: int
    recipe: dict[str, Any]
    variants: dict[str, dict[str, Any]]


def run(job: Job) -> Report:
    """Train every variant with every seed and compare."""
    s = job.settings(Settings)
    if not s.variants:
        raise UsageError("table1 needs at least one variant")
    published = published_ablation()
    trainer = Trainer(job, s.recipe, s.validation, s.crop)
    runs = {
        title: [trainer.train(title, model, seed) for seed in s.seeds]
        for title, model in s.variants.items()
    }
    scores = {title: [each.best for each in group] for title, group in runs.items()}
    first = next(iter(runs.values()))[0]
    scale = int(s.recipe["model"]["scale"])
    dataset = find_dataset(job.benchmarks(), s.validation, scale)
    return Report(
        title="Table I: LEB, NLA and HSPA, on and off",
        settings=s,
        blocks=(
            Text(
                _setting(s, first, sum(each.seconds for group in runs.values() for each in group))
            ),
            _table(s, runs, scores, published),
            Text(_order(scores, published)),
            Text(_pairs(scores)),
            _draw(job, scores, published),
        ),
        results={
            title: {
                "published": published.get(title),
                "psnr": {str(seed): each.best for seed, each in zip(s.seeds, group, strict=True)},
                "parameters": group[0].parameters,
                "seconds": [each.seconds for each in group],
                "curves": [each.curve for each in group],
            }
            for title, group in runs.items()
        },
        data={**described(dataset), **first.data()},
    )


def _setting(s: Settings, first: Trained, seconds: float) -> str:
    return (
        f"HSPAN with {setting_sentence(s.recipe)}. "
        f"{plural(len(s.seeds), 'seed')}; equal seeds mean equal patches. "
        f"{first.images:,} training images. {crop_sentence(s.validation, s.crop)}. "
        f"{seconds / 60:.0f} minutes of training in all."
    )


def _table(
    s: Settings,
    runs: Mapping[str, Sequence[Trained]],
    scores: Mapping[str, list[float]],
    published: Mapping[str, float],
) -> Table:
    best = max(scores, key=lambda title: fmean(scores[title]))
    rows: list[tuple[Cell, ...]] = []
    for title, model in s.variants.items():
        attention = str(model.get("attention", "none"))
        measured = mean_and_spread(scores[title])
        rows.append(
            cells(
                title,
                "✓" if model.get("num_blocks", 1) else "–",
                "✓" if attention == "nla" else "–",
                "✓" if attention == "hspa" else "–",
                count(runs[title][0].parameters),
                number(published.get(title), 2),
                Cell(measured.text, measured.value, title == best),
                *(number(value, 2) for value in scores[title]),
            )
        )
    seeds = tuple(f"seed {seed}" for seed in s.seeds)
    header = ("variant", "LEB", "NLA", "HSPA", "parameters", "published", "measured", *seeds)
    return Table(
        "table1", f"PSNR in dB, {s.validation} ×{s.recipe['model']['scale']}", header, tuple(rows)
    )


def _order(scores: Mapping[str, Sequence[float]], published: Mapping[str, float]) -> str:
    known = sorted((t for t in scores if t in published), key=lambda t: published[t])
    return order_sentence(scores, known)


def _pairs(scores: Mapping[str, Sequence[float]]) -> str:
    pairs = [("HSPA without LEB", "NLA without LEB"), ("LEB + HSPA", "LEB + NLA")]
    pairs += [("LEB + HSPA", "LEB alone"), ("LEB + NLA", "LEB alone")]
    parts = [
        f"{a} less {b}: **{mean_and_spread(paired(scores[a], scores[b]), sign=True).text} dB**"
        for a, b in pairs
        if a in scores and b in scores
    ]
    return "Paired differences: " + "; ".join(parts) + "." if parts else ""


def _draw(
    job: Job, scores: Mapping[str, Sequence[float]], published: Mapping[str, float]
) -> Picture:
    with drawing(2.7) as figure:
        left, right = figure.subplots(1, 2)
        titles = list(scores)
        places = range(len(titles))
        labels = [title.replace(" ", "\n") for title in titles]
        known = [title for title in titles if title in published]
        left.plot([titles.index(t) for t in known], [published[t] for t in known], "D", color=GREY)
        left.set_title("published (≤ 50,000 steps, 192 channels)")
        for place, title in enumerate(titles):
            values = scores[title]
            colour = RED if "HSPA" in title else BLUE
            right.plot([place] * len(values), values, "o", color=colour, markersize=3, alpha=0.7)
            right.plot([place - 0.25, place + 0.25], [fmean(values)] * 2, color=colour)
        right.set_title("measured here: a dot per seed, a line at the mean")
        for axes in (left, right):
            axes.set_xticks(places, labels)
            axes.set_ylabel("PSNR (dB)")
            axes.margins(x=0.1, y=0.12)
            light_grid(axes)
        return save_picture(
            figure,
            job.folder,
            "table1",
            "Table I: published left, measured right. The two differ in width, depth, steps and "
            "training images, so only the order can be compared.",
        )

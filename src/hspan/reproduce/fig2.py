"""Fig. 2: NLA, NLA of 512 random features and HSPA in one backbone: curves and attention maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from hspan.errors import UsageError
from hspan.reproduce._attention import AttentionMap, attention_maps
from hspan.reproduce._attention import as_json as maps_json
from hspan.reproduce._benchmarks import find_dataset
from hspan.reproduce._blocks import Cell, Picture, Table, Text, cells, count, number, plural
from hspan.reproduce._figures import BLUE, GREY, RED, drawing, light_grid, save_picture
from hspan.reproduce._images import lr_window, position
from hspan.reproduce._job import Job
from hspan.reproduce._report import Report, described
from hspan.reproduce._statistics import mean_and_spread, order_sentence
from hspan.reproduce._training import Trained, Trainer, crop_sentence, setting_sentence
from hspan.reproduce._variants import draw_image, draw_map, map_sentence

_COLOURS = (BLUE, GREY, RED, "black")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Fig. 2.

    Attributes:
        seeds: one run of every variant for each.
        validation: data set that runs are scored on.
        crop: HR pixels per side, in the middle of each image, that are scored; 0 is all.
        recipe: of every run, as a recipe's tables.
        variants: keys of ``[model]`` by title, from the lowest published curve to the highest.
        image: whose attention is shown, as ``DATASET/NAME`` or a file.
        window: left, top, width and height in LR pixels; empty for all.
        pixel: column and row in the window, whose weights are shown.
    """

    seeds: tuple[int, ...]
    validation: str
    crop: int
    recipe: dict[str, Any]
    variants: dict[str, dict[str, Any]]
    image: str
    window: tuple[int, ...]
    pixel: tuple[int, ...]


def run(job: Job) -> Report:
    """Train every variant with every seed; draw curves, and maps of the first seed."""
    s = job.settings(Settings)
    if not s.variants:
        raise UsageError("fig2 needs at least one variant")
    at = position(s.pixel)
    trainer = Trainer(job, s.recipe, s.validation, s.crop)
    runs = {
        title: [trainer.train(title, model, seed) for seed in s.seeds]
        for title, model in s.variants.items()
    }
    scale = int(s.recipe["model"]["scale"])
    image = lr_window(job, s.image, scale, s.window)
    maps = {title: attention_maps(group[0].network(), image, at) for title, group in runs.items()}
    scores = {title: [each.best for each in group] for title, group in runs.items()}
    first = next(iter(runs.values()))[0]
    return Report(
        title="Fig. 2: NLA, NLA of random features, and HSPA while training",
        settings=s,
        blocks=(
            Text(
                f"HSPAN with {setting_sentence(s.recipe)}. {plural(len(s.seeds), 'seed')}, "
                f"{first.images:,} training images. {crop_sentence(s.validation, s.crop)}."
            ),
            _draw_curves(job, runs, s.validation),
            Text(order_sentence(scores, list(s.variants))),
            _table(s, runs, scores),
            _draw_maps(job, image, maps, s),
            Text(f"Attention of one pixel. {map_sentence(maps)}."),
        ),
        results={
            "runs": {
                title: [{"best": each.best, "curve": each.curve} for each in group]
                for title, group in runs.items()
            },
            "maps": maps_json(maps),
        },
        data={**described(find_dataset(job.benchmarks(), s.validation, scale)), **first.data()},
    )


def _table(
    s: Settings, runs: Mapping[str, Sequence[Trained]], scores: Mapping[str, Sequence[float]]
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for title, group in runs.items():
        seeds = (number(value, 2) for value in scores[title])
        rows.append(
            cells(title, count(group[0].parameters), mean_and_spread(scores[title]), *seeds)
        )
    header = ("attention", "parameters", "PSNR", *(f"seed {seed}" for seed in s.seeds))
    return Table("fig2", f"Best PSNR in dB, {s.validation}", header, tuple(rows))


def _draw_curves(job: Job, runs: Mapping[str, Sequence[Trained]], validation: str) -> Picture:
    with drawing(2.7, width=4.4) as figure:
        axes = figure.subplots()
        for (title, group), colour in zip(runs.items(), _COLOURS, strict=False):
            steps = [step for step, _ in group[0].curve]
            values = [[psnr for _, psnr in each.curve] for each in group]
            together = list(zip(*values, strict=True))
            low, high = [min(v) for v in together], [max(v) for v in together]
            axes.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(steps, [fmean(v) for v in together], "-o", ms=3, color=colour, label=title)
        axes.set_xlabel("steps")
        axes.set_ylabel(f"PSNR, {validation} (dB)")
        axes.legend(loc="lower right")
        light_grid(axes)
        return save_picture(
            figure,
            job.folder,
            "fig2",
            "Fig. 2: PSNR while training; lines are means over seeds, bands span all of them.",
        )


def _draw_maps(
    job: Job, image: np.ndarray, maps: Mapping[str, Sequence[AttentionMap]], s: Settings
) -> Picture:
    layers = max(len(found) for found in maps.values())
    with drawing(1.25 * len(maps), width=1.3 * (layers + 1)) as figure:
        grid = figure.subplots(len(maps), layers + 1, squeeze=False)
        for row, (title, found) in zip(grid, maps.items(), strict=True):
            draw_image(row[0], image, s.pixel, title)
            for axes, each in zip(row[1:], found, strict=True):
                draw_map(axes, each, s.pixel)
        return save_picture(
            figure,
            job.folder,
            "fig2_maps",
            "Attention of the marked pixel in every layer, first seed; each map from black (zero) "
            "to bright (its largest weight), so that even weights are bright all over.",
        )

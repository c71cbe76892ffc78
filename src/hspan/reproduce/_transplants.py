"""Figs. 7 and 8: a network with and without a change, trained alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hspan.errors import UsageError
from hspan.evaluation._published import PublishedGain, published_gains
from hspan.reproduce._benchmarks import find_dataset
from hspan.reproduce._blocks import Cell, Picture, Table, Text, cells, count, number, plural
from hspan.reproduce._figures import BLUE, GREY, RED, drawing, light_grid, save_picture
from hspan.reproduce._job import Job
from hspan.reproduce._report import Report, described
from hspan.reproduce._statistics import mean_and_spread, paired, spread
from hspan.reproduce._training import Trained, Trainer, crop_sentence


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Figs. 7 and 8.

    Attributes:
        seeds: one run of every network for each, with and without.
        validation: data set that runs are scored on.
        crop: HR pixels per side, in the middle of each image, that are scored; 0 is all.
        recipe: of every run, as a recipe's tables.
        networks: keys of ``[model]`` by name in the registry.
    """

    seeds: tuple[int, ...]
    validation: str
    crop: int
    recipe: dict[str, Any]
    networks: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Pair:
    """One network, without the change and with it, over the seeds."""

    network: str
    before: Sequence[Trained]
    after: Sequence[Trained]
    published: PublishedGain | None

    @property
    def gains(self) -> list[float]:
        """With less without, in dB, seed by seed."""
        return paired([each.best for each in self.after], [each.best for each in self.before])


def transplant(job: Job, change: str, title: str, words: tuple[str, str], what: str) -> Report:
    """Train every network with and without a change.

    Args:
        job: says where and on which images.
        change: a key of ``hspan.reproduce._training.CHANGES``.
        title: of the report.
        words: what networks are called before and after the change.
        what: the change in words.
    """
    s = job.settings(Settings)
    if not s.networks:
        raise UsageError(f"{job.name} needs at least one network")
    trainer = Trainer(job, s.recipe, s.validation, s.crop)
    published = {gain.network: gain for gain in published_gains(change)}
    pairs: list[Pair] = []
    for name, config in s.networks.items():
        model = {"name": name, **config}
        before = [trainer.train(f"{name}, {words[0]}", model, seed) for seed in s.seeds]
        after = [trainer.train(f"{name}, {words[1]}", model, seed, change) for seed in s.seeds]
        pairs.append(Pair(name, before, after, published.get(name)))
    scale = int(s.recipe["model"]["scale"])
    data, training = s.recipe["data"], s.recipe["training"]
    first = pairs[0].before[0]
    setting = (
        f"×{scale}; {training['max_steps']:,} steps of {data.get('batch_size', 16)} patches of "
        f"{data.get('patch', 48)}×{data.get('patch', 48)} LR pixels, with and without alike; "
        f"{plural(len(s.seeds), 'seed')}; {first.images:,} training "
        f"images. {_widths(s.networks)}{crop_sentence(s.validation, s.crop)}."
    )
    return Report(
        title=title,
        settings=s,
        blocks=(
            Text(setting),
            _draw(job, pairs, words),
            _table(job.name, pairs, words),
            Text(_finding(pairs, what)),
        ),
        results={
            pair.network: {
                "published_gain": pair.published.gain if pair.published else None,
                "parameters": [pair.before[0].parameters, pair.after[0].parameters],
                "without": [each.best for each in pair.before],
                "with": [each.best for each in pair.after],
            }
            for pair in pairs
        },
        data={**described(find_dataset(job.benchmarks(), s.validation, scale)), **first.data()},
    )


def _widths(networks: Mapping[str, Mapping[str, Any]]) -> str:
    parts = [
        f"{name} with {', '.join(f'{key} {value}' for key, value in config.items())}"
        for name, config in networks.items()
        if config
    ]
    return f"Reduced from the published networks: {'; '.join(parts)}. " if parts else ""


def _finding(pairs: Sequence[Pair], what: str) -> str:
    clear: list[str] = []
    unclear: list[str] = []
    for pair in pairs:
        gains, width = pair.gains, spread(pair.gains)
        one_sign = all(gain > 0 for gain in gains) or all(gain < 0 for gain in gains)
        known = width is not None and one_sign and abs(fmean(gains)) > width
        (clear if known else unclear).append(f"{pair.network} {fmean(gains):+.2f} dB")
    sentence = f"Measured change by {what}: "
    if clear:
        sentence += f"{', '.join(clear)}, of one sign for every seed and above its spread"
    if unclear:
        sentence += f"{'; ' if clear else ''}{', '.join(unclear)}, not clear of the seeds' spread"
    return f"{sentence}. Short runs of reduced networks can't show what long ones of full size do."


def _table(name: str, pairs: Sequence[Pair], words: tuple[str, str]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for pair in pairs:
        rows.append(
            cells(
                pair.network,
                count(pair.before[0].parameters),
                count(pair.after[0].parameters - pair.before[0].parameters),
                mean_and_spread([each.best for each in pair.before]),
                mean_and_spread([each.best for each in pair.after]),
                mean_and_spread(pair.gains, sign=True),
                number(pair.published.gain if pair.published else None, 2, sign=True),
            )
        )
    header = ("network", "parameters", "added", *words, "gain, measured", "gain, published")
    caption = "PSNR in dB, mean ± standard deviation over seeds; gains are paired by seed"
    return Table(name, caption, header, tuple(rows))


def _draw(job: Job, pairs: Sequence[Pair], words: tuple[str, str]) -> Picture:
    with drawing(2.6) as figure:
        grid = figure.subplots(1, len(pairs), squeeze=False)[0]
        for axes, pair in zip(grid, pairs, strict=True):
            groups = pair.before, pair.after
            sizes = [group[0].parameters / 1000 for group in groups]
            same = sizes[0] == sizes[1]
            places = [0.0, 1.0] if same else sizes  # side by side where nothing is added
            means = [fmean([each.best for each in group]) for group in groups]
            axes.plot(places, means, "-", color=GREY, linewidth=0.7, zorder=0)
            for group, place, mean, colour, label in zip(
                groups, places, means, (BLUE, RED), words, strict=True
            ):
                scores = [each.best for each in group]
                axes.plot([place] * len(scores), scores, "o", ms=3, color=colour, alpha=0.6)
                axes.errorbar(
                    place,
                    mean,
                    yerr=spread(scores) or 0.0,
                    fmt="s",
                    ms=5,
                    capsize=3,
                    color=colour,
                    label=label,
                )
            said = pair.published.gain if pair.published else None
            known = f"published {said:+.2f} dB" if said is not None else "published in the figure"
            axes.set_title(f"{pair.network}: {fmean(pair.gains):+.2f} dB\n({known})")
            axes.set_xlabel("parameters (thousands)")
            axes.margins(x=0.35, y=0.15)
            if same:
                axes.set_xticks(places, words)
                axes.set_xlabel(f"{pair.before[0].parameters:,} parameters, with either")
            light_grid(axes)
        grid[0].set_ylabel("PSNR (dB)")
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        return save_picture(
            figure,
            job.folder,
            job.name,
            "PSNR against parameters, trained alike: small dots are seeds, squares their mean with "
            "one standard deviation.",
        )

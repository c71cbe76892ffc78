"""Fig. 4: what layers 1, 3, 5, 7 and 9 of ten attend to, with NLA and with HSPA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hspan.errors import UsageError
from hspan.reproduce._attention import AttentionMap, attention_maps
from hspan.reproduce._attention import as_json as maps_json
from hspan.reproduce._benchmarks import find_dataset
from hspan.reproduce._blocks import Block, Picture, Text
from hspan.reproduce._figures import drawing, save_picture
from hspan.reproduce._images import lr_window, position
from hspan.reproduce._job import Job
from hspan.reproduce._report import Report, described
from hspan.reproduce._training import Trained, Trainer, crop_sentence, setting_sentence
from hspan.reproduce._variants import draw_image, draw_map, map_sentence


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Fig. 4.

    Attributes:
        seeds: the first trains the networks.
        validation: data set that runs are scored on.
        crop: HR pixels per side, in the middle of each image, that are scored; 0 is all.
        recipe: of every run, as a recipe's tables.
        variants: keys of ``[model]`` by title.
        layers: shown, counted from 1.
        image: whose attention is shown, as ``DATASET/NAME`` or a file.
        window: left, top, width and height in LR pixels; empty for all.
        pixels: column and row in the window, for a picture each.
    """

    seeds: tuple[int, ...]
    validation: str
    crop: int
    recipe: dict[str, Any]
    variants: dict[str, dict[str, Any]]
    layers: tuple[int, ...]
    image: str
    window: tuple[int, ...]
    pixels: tuple[tuple[int, ...], ...]


def run(job: Job) -> Report:
    """Train a network with each attention, and draw its maps."""
    s = job.settings(Settings)
    if not (s.variants and s.layers and s.pixels):
        raise UsageError("fig4 needs at least one variant, one layer and one pixel")
    places = [position(pixel) for pixel in s.pixels]
    trainer = Trainer(job, s.recipe, s.validation, s.crop)
    runs = {title: trainer.train(title, model, s.seeds[0]) for title, model in s.variants.items()}
    scale = int(s.recipe["model"]["scale"])
    image = lr_window(job, s.image, scale, s.window)
    networks = {title: each.network() for title, each in runs.items()}
    blocks: list[Block] = [Text(_setting(s, runs))]
    results: dict[str, Any] = {"psnr": {title: each.best for title, each in runs.items()}}
    for i, at in enumerate(places, start=1):
        maps = {title: attention_maps(each, image, at) for title, each in networks.items()}
        shown = {title: _chosen(found, s.layers) for title, found in maps.items()}
        blocks.append(_draw(job, i, image, shown, at))
        blocks.append(Text(f"Pixel ({at[0]}, {at[1]}), all layers. {map_sentence(maps)}."))
        results[f"pixel {at[0]},{at[1]}"] = maps_json(maps)
    first = next(iter(runs.values()))
    return Report(
        title="Fig. 4: attention maps of layers, NLA and HSPA",
        settings=s,
        blocks=tuple(blocks),
        results=results,
        data={**described(find_dataset(job.benchmarks(), s.validation, scale)), **first.data()},
    )


def _setting(s: Settings, runs: dict[str, Trained]) -> str:
    scores = ", ".join(f"{title} {each.best:.2f} dB" for title, each in runs.items())
    return (
        f"HSPAN with {setting_sentence(s.recipe)}; seed {s.seeds[0]}. "
        f"{crop_sentence(s.validation, s.crop)}: {scores}."
    )


def _chosen(maps: Sequence[AttentionMap], layers: Sequence[int]) -> list[AttentionMap]:
    if max(layers) > len(maps) or min(layers) < 1:
        raise UsageError(f"layers must lie in [1, {len(maps)}], got {list(layers)}")
    return [maps[layer - 1] for layer in layers]


def _draw(
    job: Job,
    i: int,
    image: np.ndarray,
    shown: dict[str, list[AttentionMap]],
    at: tuple[int, int],
) -> Picture:
    columns = 1 + len(next(iter(shown.values())))
    with drawing(1.45 * len(shown)) as figure:
        grid = figure.subplots(len(shown), columns, squeeze=False)
        for row, (title, found) in zip(grid, shown.items(), strict=True):
            draw_image(row[0], image, at, title)
            for axes, each in zip(row[1:], found, strict=True):
                draw_map(axes, each, at)
        return save_picture(
            figure,
            job.folder,
            f"fig4_{i}",
            f"Fig. 4, pixel {i}: attention of the marked pixel; each map from black (zero) to "
            "bright (its largest weight), so that even weights are bright all over.",
        )

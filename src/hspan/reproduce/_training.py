"""Training runs of an experiment: seeded, resumed where they were interrupted, never done twice.

A run's folder, ``OUT/runs/NETWORK-HASH``, is named by everything that its result depends on: the
recipe, the change made to the network, and the names and sizes of the images. Experiments that ask
for the same run share it.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from hspan._whole_files import write_text
from hspan.errors import HspanError, UsageError
from hspan.models.surgery import add_hspa, replace_softmax
from hspan.reproduce._benchmarks import crop_images, find_dataset, fingerprint
from hspan.reproduce._blocks import plural
from hspan.reproduce._job import Job
from hspan.weights import load_model
from hspan.weights._container import read_metadata

if TYPE_CHECKING:
    from hspan.training import Recipe

# What can be done to a network after it is built, by the name that settings use.
CHANGES: dict[str, Callable[[nn.Module], object]] = {
    "hspa": add_hspa,
    "soft-threshold": replace_softmax,
}


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        weights: of the best score.
        best: PSNR in dB, the best of the curve.
        curve: steps and PSNR in dB.
        parameters: trainable.
        seconds: of training and scoring.
        images: training images.
        data_sha256: of all their pixels.
    """

    weights: Path
    best: float
    curve: tuple[tuple[int, float], ...]
    parameters: int
    seconds: float
    images: int
    data_sha256: str

    def network(self) -> nn.Module:
        """The trained network, in eval mode, on the processor."""
        return load_model(self.weights, device="cpu")

    def data(self) -> dict[str, dict[str, object]]:
        """The training images as ``Report.data`` wants them."""
        return {"training": {"images": self.images, "sha256": self.data_sha256}}


@dataclass(frozen=True)
class Trainer:
    """Runs of one experiment, on the same images and with the same scores.

    Attributes:
        job: says where, on which images and on what.
        recipe: tables of a recipe, as in its TOML file, without folders and seed.
        validation: data set that runs are scored on.
        crop: HR pixels per side, in the middle of each image, that are scored; 0 is all.
    """

    job: Job
    recipe: Mapping[str, Any]
    validation: str
    crop: int

    def train(self, title: str, model: Mapping[str, Any], seed: int, change: str = "") -> Trained:
        """Train a network, or return what an earlier call left.

        Args:
            title: for progress.
            model: keys of the recipe's ``[model]`` that differ.
            seed: chooses initial weights and patches.
            change: "hspa", "soft-threshold", or "" for none.

        Raises:
            UsageError: folders are missing, or a setting is wrong.
            HspanError: the run was interrupted.
        """
        if change and change not in CHANGES:
            raise UsageError(f"change is {' or '.join(CHANGES)}, got {change!r}")
        recipe, key = self._prepare(model, seed, change)
        folder = self.job.out / "runs" / f"{recipe.model.name}-{key}"
        finished = folder / "finished.json"
        if not finished.exists():
            with self._alone(folder, f"{title}, seed {seed}"):
                if not finished.exists():  # another command may have finished it meanwhile
                    self.job.say(f"{self.job.name}: training {title}, seed {seed}")
                    self._run(recipe, folder, change)
        return _read(folder)

    @contextmanager
    def _alone(self, folder: Path, title: str) -> Generator[None, None, None]:
        """Keep other commands that share the folder of results from training the same run."""
        from filelock import FileLock, Timeout

        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.job.say(f"{self.job.name}: waiting for another command, which trains {title}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _prepare(self, model: Mapping[str, Any], seed: int, change: str) -> tuple[Recipe, str]:
        if find_spec("lightning") is None:
            raise UsageError("training needs lightning: pip install 'hspan[train]'")
        from hspan.training._recipe import _build

        tables = deepcopy(dict(self.recipe))
        tables["model"] = {**tables.get("model", {}), **model}
        tables["training"] = {**tables.get("training", {}), "seed": seed}
        recipe = _build("reproduce", tables)
        scale, kind = recipe.model.scale, recipe.data.kind
        images = self.job.training_images()
        dataset = find_dataset(self.job.benchmarks(), self.validation, scale, kind)
        facts = {
            "recipe": recipe.as_dict(),
            "change": change,
            "images": fingerprint(images, scale, kind),
            "validation": [dataset.sha256, self.crop],
        }
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
        scored = dataset.folder
        if self.crop:
            scored = crop_images(dataset, self.crop, scale, self.job.out / "runs")
        tables["data"] = {
            **tables.get("data", {}),
            "train": str(images),
            "validation": str(scored),
            "cache": tables.get("data", {}).get("cache") or str(self.job.out / "runs" / "images"),
        }
        tables["training"]["accelerator"] = _accelerator(self.job.device)
        return _build("reproduce", tables), key

    def _run(self, recipe: Recipe, folder: Path, change: str) -> None:
        from hspan.training import train

        result = train(recipe, folder, resume="auto", change=CHANGES.get(change))
        if result.interrupted or result.weights is None:
            raise HspanError("interrupted; the same command goes on from here")
        best = result.weights.with_name(f"{result.weights.stem}_best.safetensors")
        weights = best if best.exists() else result.weights
        provenance = json.loads(read_metadata(weights)["hspan.provenance"])
        network = load_model(weights, device="cpu")
        content = {
            "weights": weights.name,
            "best": result.best_psnr,
            "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
            "seconds": result.seconds,
            "images": provenance["images"],
            "data_sha256": provenance["data_sha256"],
        }
        for checkpoint in ("last.ckpt", "best.ckpt"):
            (folder / checkpoint).unlink(missing_ok=True)
        write_text(folder / "finished.json", json.dumps(content, indent=1) + "\n")


def setting_sentence(recipe: Mapping[str, Any]) -> str:
    """Width, depth, steps and patches of a recipe, beside the paper's."""
    model, data, training = recipe["model"], recipe["data"], recipe["training"]
    patch = data.get("patch", 48)
    return (
        f"{model.get('channels', 192)} channels, {plural(model.get('num_modules', 10), 'module')} "
        f"of {plural(model.get('num_blocks', 4), 'residual block')}; {training['max_steps']:,} "
        f"steps of {data.get('batch_size', 16)} patches of {patch}×{patch} "
        "LR pixels (the paper: 192 channels, 10 modules of 4 blocks, at most 50,000 steps of 16 "
        "patches of 48×48)"
    )


def crop_sentence(validation: str, crop: int) -> str:
    """What is scored."""
    part = f"the middle {crop}×{crop} pixels of {validation}'s images" if crop else validation
    return f"PSNR on Y of {part}, the best along each run, as the paper takes it"


def _read(folder: Path) -> Trained:
    content = json.loads((folder / "finished.json").read_text(encoding="utf-8"))
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["psnr"]]
    return Trained(
        weights=folder / content["weights"],
        best=content["best"],
        curve=tuple((int(row["step"]), float(row["psnr"])) for row in rows),
        parameters=content["parameters"],
        seconds=content["seconds"],
        images=content["images"],
        data_sha256=content["data_sha256"],
    )


def _accelerator(device: str) -> str:
    """Lightning's word for a device."""
    kind = device.partition(":")[0]
    return kind if kind in ("auto", "cpu", "cuda", "mps") else "auto"

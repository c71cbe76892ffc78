"""A whole training run: from a recipe to a file of weights."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import lightning as L
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from hspan._allocator import keep_memory
from hspan._whole_files import write_text
from hspan.data import ImageCache, build_cache
from hspan.errors import HspanError, UsageError
from hspan.models import create_model
from hspan.training._callbacks import (
    CheckpointCallback,
    LogCallback,
    StopCallback,
    ValidationCallback,
)
from hspan.training._datamodule import PatchDataModule
from hspan.training._export import export, provenance
from hspan.training._module import SRTrainingModule
from hspan.training._recipe import Recipe
from hspan.training._resume import check_resumable, find_checkpoint
from hspan.training._validation import ValidationSet

_NAMED = 5  # small images; the rest are counted

_LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed"}


class Observer(Protocol):
    """Who wants to know how a run is going."""

    def note(self, sentence: str) -> None:
        """Something worth a line."""

    def caching(self, done: int, total: int) -> None:
        """Progress of decoding the images."""

    def row(self, row: dict[str, float]) -> None:
        """A row of the log."""


class SilentObserver:
    """Shows nothing."""

    def note(self, sentence: str) -> None:
        """Show nothing."""

    def caching(self, done: int, total: int) -> None:
        """Show nothing."""

    def row(self, row: dict[str, float]) -> None:
        """Show nothing."""


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        steps: done in all.
        seconds: spent in training, over all parts of the run.
        psnr: last score; None without ``data.validation``.
        best_psnr: best score, which isn't always the last.
        interrupted: by a signal; no weights are exported then.
        checkpoint: full state, to resume from.
        weights: the exported file; None if interrupted.
    """

    steps: int
    seconds: float
    psnr: float | None
    best_psnr: float | None
    interrupted: bool
    checkpoint: Path
    weights: Path | None


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: str | Path | None = None,
    observer: Observer | None = None,
    change: Callable[[nn.Module], object] | None = None,
) -> TrainingResult:
    """Train a network as a recipe says.

    Writes ``recipe.toml``, ``log.csv``, ``tensorboard/``, ``last.ckpt``, ``best.ckpt`` and, at the
    end, the weights as ``{scale}x_{model}.safetensors`` (``_BD`` added for that degradation). If an
    earlier score was better than the last, its weights are added as ``..._best.safetensors``.
    On processors, the process keeps freed memory from then on, which makes steps faster.

    Args:
        recipe: the settings.
        out: folder of the run.
        resume: "auto" to continue from ``last.ckpt`` if there is one, or a checkpoint's path; None
            to start anew.
        observer: told about progress.
        change: done to the fresh network before anything else, such as ``hspan.add_hspa``. The
            recipe knows nothing of it: resume with the same.

    Raises:
        UsageError: the recipe lacks a folder or asks for an impossible network or device, the
            checkpoint is of another network, or ``out`` holds a run already and ``resume`` is None.
        InputError: images or checkpoint can't be used, or ``out`` can't be written.
        DivergenceError: nothing but skipped steps for a long time.
    """
    observer = observer or SilentObserver()
    out = Path(out)
    if not recipe.data.train:
        raise UsageError("no training images: give their folder as data.train=DIR")
    checkpoint = find_checkpoint(out, resume)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay theirs
        torch.manual_seed(recipe.training.seed)
        network = _created(recipe)
        if change is not None:
            change(network)
    module = SRTrainingModule(network, recipe)
    if checkpoint is not None:
        changes = check_resumable(checkpoint, module)
        observer.note(f"continuing from {checkpoint}")
        for sentence in changes:
            observer.note(f"changed: {sentence}")
    elif recipe.training.init_from:
        observer.note(module.start_from(recipe.training.init_from))
    cache = build_cache(
        recipe.data.train,
        recipe.model.scale,
        recipe.data.kind,
        sizes=recipe.data.sizes,
        cache_folder=recipe.data.cache or None,
        report=observer.caching,
    )
    _note_images(cache, recipe.data.patch, observer)
    if checkpoint is None and not recipe.training.init_from:
        module.start_from_images(cache)

    stop = StopCallback(recipe.training.max_seconds)
    validation = None
    if recipe.data.validation:
        images = ValidationSet(recipe.data.validation, recipe.model.scale, recipe.data.kind)
        validation = ValidationCallback(images, recipe.logging.validate_every, stop)
    write_text(out / "recipe.toml", recipe.as_toml(), parents=True)
    trainer = _trainer(recipe, out, stop, validation, observer)
    if isinstance(trainer.accelerator, CPUAccelerator):
        keep_memory()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        # Lightning 2.6 builds torch's LeafSpec, which newer versions of torch deprecate.
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        trainer.fit(module, datamodule=PatchDataModule(cache, recipe), ckpt_path=checkpoint)

    weights = None
    if not stop.interrupted and trainer.is_global_zero:
        weights = export(module, out, validation, provenance(module, cache, trainer))
    return TrainingResult(
        steps=trainer.global_step,
        seconds=module.seconds,
        psnr=validation.psnr if validation else None,
        best_psnr=validation.best if validation else None,
        interrupted=stop.interrupted,
        checkpoint=out / "last.ckpt",
        weights=weights,
    )


def _created(recipe: Recipe) -> nn.Module:
    section = recipe.model
    try:
        return create_model(section.name, scale=section.scale, **section.config)
    except (RuntimeError, MemoryError, OverflowError) as error:
        if isinstance(error, HspanError):
            raise
        reason = (str(error).splitlines() or ["out of memory"])[0]
        raise UsageError(f"a network of these sizes can't be built: {reason}") from error


def _note_images(cache: ImageCache, patch: int, observer: Observer) -> None:
    observer.note(f"{len(cache.images)} training images, cached in {cache.folder}")
    side, small = patch * cache.scale, cache.smaller_than(patch)
    if small:
        rest = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
        names = ", ".join(small[:_NAMED])
        observer.note(f"left out {names}{rest}: smaller than a {side}×{side} patch")
    for name, reason in cache.skipped.items():
        observer.note(f"left out {name}: {reason}")


def _trainer(
    recipe: Recipe,
    out: Path,
    stop: StopCallback,
    validation: ValidationCallback | None,
    observer: Observer,
) -> L.Trainer:
    settings = recipe.logging
    # Lightning's own lines repeat what the observer shows, or advertise.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    log = LogCallback(
        out / "log.csv",
        settings.log_every,
        recipe.data.batch_size,
        validation,
        observer.row,
        observer.note,
    )
    checkpoints = CheckpointCallback(out, settings.save_every, settings.save_minutes, validation)
    callbacks: list[L.Callback] = [stop, *([validation] if validation else []), log, checkpoints]
    try:
        return L.Trainer(
            accelerator=recipe.training.accelerator,
            devices=recipe.training.devices,
            num_nodes=recipe.training.nodes,
            precision=cast(Any, _LIGHTNING_PRECISION[recipe.training.precision]),
            max_epochs=-1,
            max_steps=recipe.training.max_steps,
            callbacks=callbacks,
            logger=TensorBoardLogger(out, name="", version="tensorboard"),
            default_root_dir=out,
            enable_checkpointing=False,  # ours are written at chosen steps, under stable names
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
    except Exception as error:
        # Lightning reports missing hardware by several exceptions of its own.
        raise UsageError(
            f"training.accelerator={recipe.training.accelerator} can't be used here: {error}"
        ) from error

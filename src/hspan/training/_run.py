"""A whole training run: from a recipe to a file of weights."""

import datetime
import logging
import platform
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from hspan._version import __version__
from hspan.data import ImageCache, build_cache
from hspan.errors import InputError, UsageError
from hspan.models import create_model
from hspan.training._callbacks import (
    CheckpointCallback,
    LogCallback,
    StopCallback,
    ValidationCallback,
)
from hspan.training._datamodule import PatchDataModule
from hspan.training._module import SRTrainingModule
from hspan.training._recipe import Recipe
from hspan.training._transfer import transfer_weights
from hspan.training._validation import ValidationSet
from hspan.weights import save_model

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
        interrupted: by a signal; no weights are exported then.
        checkpoint: full state, to resume from.
        weights: the exported file; None if interrupted.
    """

    steps: int
    seconds: float
    psnr: float | None
    interrupted: bool
    checkpoint: Path
    weights: Path | None


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: str | Path | None = None,
    observer: Observer | None = None,
) -> TrainingResult:
    """Train a network as a recipe says.

    Writes ``log.csv``, ``tensorboard/``, ``last.ckpt``, ``best.ckpt`` and, at the end, the weights
    as ``{scale}x_{model}.safetensors`` (``_BD`` added for that degradation).

    Args:
        recipe: the settings.
        out: folder of the run.
        resume: "auto" to continue from ``last.ckpt`` if there is one, or a checkpoint's path; None
            to start anew.
        observer: told about progress.

    Raises:
        UsageError: the recipe lacks a folder or asks for an impossible network or device, the
            checkpoint is of another network, or ``out`` holds a run already and ``resume`` is None.
        InputError: images or checkpoint can't be used.
        DivergenceError: nothing but skipped steps for a long time.
    """
    observer = observer or SilentObserver()
    out = Path(out)
    if not recipe.data.train:
        raise UsageError("no training images: give their folder as data.train=DIR")
    checkpoint = _checkpoint(out, resume)
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay theirs
        torch.manual_seed(recipe.training.seed)
        network = create_model(recipe.model.name, scale=recipe.model.scale, **recipe.model.config)
    if checkpoint is not None:
        _check_same_network(checkpoint, recipe)
        observer.note(f"continuing from {checkpoint}")
    elif recipe.training.init_from:
        observer.note(transfer_weights(recipe.training.init_from, network))
    cache = build_cache(
        recipe.data.train,
        recipe.model.scale,
        recipe.data.kind,
        cache_folder=recipe.data.cache or None,
        report=observer.caching,
    )
    _note_images(cache, observer)

    stop = StopCallback(recipe.training.max_seconds)
    validation = None
    if recipe.data.validation:
        images = ValidationSet(recipe.data.validation, recipe.model.scale, recipe.data.kind)
        validation = ValidationCallback(images, recipe.logging.validate_every, stop)
    module = SRTrainingModule(network, recipe)
    out.mkdir(parents=True, exist_ok=True)
    trainer = _trainer(recipe, out, stop, validation, observer)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        # Lightning 2.6 builds torch's LeafSpec, which newer versions of torch deprecate.
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        trainer.fit(module, datamodule=PatchDataModule(cache, recipe), ckpt_path=checkpoint)

    weights = None
    if not stop.interrupted and trainer.is_global_zero:
        suffix = "" if recipe.data.kind == "BI" else f"_{recipe.data.kind}"
        weights = out / f"{recipe.model.scale}x_{recipe.model.name}{suffix}.safetensors"
        psnr = validation.psnr if validation else None
        details = provenance(recipe, cache, module, trainer.global_step, psnr)
        save_model(module.result, weights, name=recipe.model.name, metadata=details)
    return TrainingResult(
        steps=trainer.global_step,
        seconds=module.seconds,
        psnr=validation.psnr if validation else None,
        interrupted=stop.interrupted,
        checkpoint=out / "last.ckpt",
        weights=weights,
    )


def provenance(
    recipe: Recipe, cache: ImageCache, module: SRTrainingModule, steps: int, psnr: float | None
) -> dict[str, Any]:
    """Where weights come from, for their metadata; no paths, which say nothing elsewhere."""
    settings = recipe.as_dict()
    for key in ("train", "validation", "cache"):
        settings["data"][key] = Path(settings["data"][key]).name
    settings["training"]["init_from"] = Path(settings["training"]["init_from"]).name
    device = module.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "recipe": settings,
        "steps": steps,
        "seconds": round(module.seconds),
        "skipped_steps": int(module.skipped),
        "images": len(cache.images),
        "data_sha256": cache.digest,
        "validation_psnr": psnr,
        "device": name,
        "torch": torch.__version__,
        "hspan": __version__,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _checkpoint(out: Path, resume: str | Path | None) -> Path | None:
    last = out / "last.ckpt"
    if resume is None:
        if last.exists():
            raise UsageError(
                f"{out} holds a run already: continue it with --resume auto, or choose another "
                "folder with --out"
            )
        return None
    if str(resume) == "auto":
        return last if last.exists() else None
    if not Path(resume).is_file():
        raise InputError(f"{resume}: no such checkpoint")
    return Path(resume)


def _check_same_network(path: Path, recipe: Recipe) -> None:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["recipe"]
    except Exception as error:  # torch raises many kinds for a damaged file
        raise InputError(f"{path}: not a checkpoint of a training run ({error})") from error
    wanted = recipe.as_dict()
    for key, what in (("model", "network"), ("optimizer", "optimizer")):
        if saved[key] != wanted[key]:
            raise UsageError(
                f"{path} was made with another {what}: {saved[key]}, but the recipe says "
                f"{wanted[key]}"
            )
    if bool(saved["training"]["ema"]) != bool(wanted["training"]["ema"]):
        word = "without" if wanted["training"]["ema"] else "with"
        raise UsageError(f"{path} was made {word} training.ema, the recipe is the other way round")


def _note_images(cache: ImageCache, observer: Observer) -> None:
    observer.note(f"{len(cache.images)} training images, cached in {cache.folder}")
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

"""From a finished run to files of weights that say where they come from."""

import datetime
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch

from hspan._version import __version__
from hspan.data import ImageCache
from hspan.training._callbacks import ValidationCallback
from hspan.training._module import SRTrainingModule
from hspan.weights import save_model


def export(
    module: SRTrainingModule,
    out: Path,
    validation: ValidationCallback | None,
    facts: Mapping[str, Any],
) -> Path:
    """Write the last weights, and the best ones where those are others.

    Args:
        module: after training; holds the best weights afterwards, if those are written.
        out: folder of the run, with ``best.ckpt``.
        validation: knows the scores; None without.
        facts: provenance of both.

    Returns:
        The file with the last weights.
    """
    recipe = module.recipe
    name = recipe.model.name
    suffix = "" if recipe.data.kind == "BI" else f"_{recipe.data.kind}"
    stem = f"{recipe.model.scale}x_{name}{suffix}"
    last = out / f"{stem}.safetensors"
    psnr = validation.psnr if validation else None
    save_model(module.result, last, name=name, metadata={**facts, "validation_psnr": psnr})
    if validation and psnr is not None and validation.best > psnr:
        best = torch.load(out / "best.ckpt", map_location="cpu", weights_only=True)
        module.load_state_dict(best["state_dict"])
        metadata = {**facts, "steps": best["global_step"], "validation_psnr": validation.best}
        save_model(module.result, out / f"{stem}_best.safetensors", name=name, metadata=metadata)
    return last


def provenance(module: SRTrainingModule, cache: ImageCache, trainer: L.Trainer) -> dict[str, Any]:
    """Where weights come from, for their metadata; no paths, which say nothing elsewhere.

    Args:
        module: after training.
        cache: the training images.
        trainer: that trained it.
    """
    settings = module.recipe.as_dict()
    for key in ("train", "validation", "cache"):
        settings["data"][key] = Path(settings["data"][key]).name
    settings["training"]["init_from"] = Path(settings["training"]["init_from"]).name
    device = trainer.strategy.root_device
    return {
        "recipe": settings,
        "steps": trainer.global_step,
        "seconds": round(module.seconds),
        "skipped_steps": int(module.skipped),
        "images": len(cache.images),
        "data_sha256": cache.digest,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
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

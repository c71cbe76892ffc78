"""Which checkpoint to continue from, and whether it belongs to the recipe."""

from pathlib import Path
from typing import Any

import torch

from hspan.errors import InputError, UsageError
from hspan.training._module import SRTrainingModule


def find_checkpoint(out: Path, resume: str | Path | None) -> Path | None:
    """Turn ``--resume`` into a file.

    Args:
        out: folder of the run.
        resume: "auto" for ``last.ckpt`` if there is one, a path, or None to start anew.

    Returns:
        The checkpoint; None to start anew.

    Raises:
        UsageError: starting anew would overwrite a run.
        InputError: no such file.
    """
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


def check_resumable(path: Path, module: SRTrainingModule) -> list[str]:
    """Compare a checkpoint with the recipe that is to continue it.

    Args:
        path: the checkpoint.
        module: built from the recipe.

    Returns:
        Settings that differ, as sentences; they don't stand in the way.

    Raises:
        InputError: damaged, or no checkpoint of a training run.
        UsageError: another network, or settings that are part of the optimizer's state.
    """
    try:
        # Memory-mapped, so that only what is looked at is read.
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        tables, tensors = saved["recipe"], saved["state_dict"]
    except Exception as error:  # torch raises many kinds for a damaged file
        raise InputError(f"{path}: not a checkpoint of a training run ({error})") from error
    wanted = module.recipe.as_dict()
    changes: dict[str, tuple[Any, Any]] = {
        f"{section}.{key}": (tables[section].get(key), value)
        for section, table in wanted.items()
        if isinstance(table, dict)
        for key, value in table.items()
        if tables[section].get(key) != value
    }
    fixed = ("model.", "optimizer.name", "optimizer.betas", "optimizer.eps")
    if wrong := [key for key in changes if key.startswith(fixed)]:
        was, now = changes[wrong[0]]
        raise UsageError(f"{path} was made with {wrong[0]}={was}, the recipe says {now}")
    own = {key: tensor.shape for key, tensor in module.state_dict().items()}
    if own != {key: tensor.shape for key, tensor in tensors.items()}:
        raise UsageError(f"{path} holds other tensors than the recipe's network and its average")
    return [f"{key} is {now}, was {was}" for key, (was, now) in changes.items()]

"""Official checkpoints into our own format."""

from __future__ import annotations

import hashlib
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from hspan.errors import InputError, UsageError
from hspan.models import registry_name
from hspan.weights._load import load_model
from hspan.weights._save import save_model


def convert_checkpoint(
    source: str | PathLike[str],
    target: str | PathLike[str],
    *,
    name: str | None = None,
    scale: int | None = None,
    overwrite: bool = False,
    **config: Any,
) -> nn.Module:
    """Save a checkpoint of anybody's as safetensors that says what it is.

    The file that is written loads without further words, into a network that computes the same
    bits. Its provenance names the source and the SHA-256 of its bytes.

    Args:
        source: a checkpoint that ``load_model`` reads.
        target: ends in ``.safetensors``; appears under this name only when it is complete.
        name: as in ``load_model``.
        scale: as in ``load_model``.
        overwrite: whether a file may be replaced; the source never is.
        config: as in ``load_model``.

    Returns:
        The network, in eval mode on the processor.

    Raises:
        UsageError: the target isn't named ``.safetensors`` or is the source, or as in
            ``load_model``.
        InputError: the target exists or can't be written, or the source can't be read.
        WeightsError: as in ``load_model``.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":  # before minutes of work, not after them
        raise UsageError(f"{target}: weights are saved as .safetensors")
    if target.exists() and source.exists() and target.samefile(source):
        raise UsageError(f"{target} is the source itself; choose another name")
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already; --overwrite replaces it")
    if not source.is_file():
        raise InputError(f"{source}: no such checkpoint file")
    network = load_model(source, name=name, scale=scale, device="cpu", **config)
    details = {"converted_from": source.name, "sha256": _digest(source)}
    save_model(network, target, name=name or registry_name(network), metadata=details)
    return network


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

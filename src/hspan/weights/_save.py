"""Writing our own checkpoints: safetensors with everything needed to build the network again.

Metadata, all text as the format wants it:

    modelspec.*       the keys that model managers read: title, architecture, implementation...
    hspan.model       the network's name in the registry
    hspan.config      its whole configuration, as JSON
    hspan.changes     HSPA inserted and softmax replaced since it was built, as JSON; often absent
    hspan.provenance  where the weights come from (data, steps, scores...), as JSON
    hspan.hash        SHA-256 of the weights (``weights_hash``), checked when they are loaded
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hspan._version import __version__
from hspan.errors import UsageError, WeightsError
from hspan.models import changes, network_entry
from hspan.weights._container import write_safetensors
from hspan.weights._hash import content_hash


def save_model(
    model: nn.Module,
    path: str | PathLike[str],
    *,
    name: str,
    metadata: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a network as safetensors that ``load_model`` rebuilds without being told anything.

    The file appears under its name only when it is complete.

    Args:
        model: a network from the registry; its ``config`` goes into the file, and what
            ``add_hspa`` and ``replace_softmax`` changed.
        path: ends in ``.safetensors``; an existing file is replaced.
        name: the network's name in the registry.
        metadata: provenance to keep with the weights, as values that JSON can hold (data, steps,
            ``scores`` as ``{"Set5": {"psnr": ..., "ssim": ...}}``); keys that begin with
            ``modelspec.`` go beside it instead, as they are.
        dtype: in which floating-point values are stored (``torch.float16`` halves the file);
            None keeps theirs.

    Raises:
        UsageError: the path doesn't end in ``.safetensors``, the name isn't in the registry, or the
            network has no config.
        WeightsError: ``dtype`` can't hold the weights.
        InputError: the folder is missing or the file can't be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: weights are saved as .safetensors")
    network_entry(name)
    config = getattr(model, "config", None)
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise UsageError(f"{type(model).__name__} has no config to save; save a registry network")
    tensors = {key: _stored(key, t, dtype) for key, t in model.state_dict().items()}
    entries = dict(metadata or {})
    modelspec = {k: str(entries.pop(k)) for k in list(entries) if k.startswith("modelspec.")}
    fields = dataclasses.asdict(config)
    header = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": name,
        "modelspec.implementation": "hspan",
        "modelspec.title": f"{name} x{fields['scale']}",
        **modelspec,
        "hspan.version": __version__,
        "hspan.model": name,
        "hspan.config": json.dumps(fields, sort_keys=True),
        "hspan.provenance": json.dumps(entries, sort_keys=True),
        "hspan.hash": content_hash(tensors),
    }
    if changed := changes(model):
        header["hspan.changes"] = json.dumps(changed, sort_keys=True)
    write_safetensors(path, tensors, header)


def _stored(key: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    if dtype is None or not tensor.is_floating_point():
        # A copy: views into shared storage aren't allowed in the format.
        return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    stored = tensor.detach().cpu().to(dtype, memory_format=torch.contiguous_format, copy=True)
    if not bool(stored.isfinite().all()) and bool(tensor.isfinite().all()):
        raise WeightsError(f"{key} is too large for {dtype}; store it in float32")
    return stored

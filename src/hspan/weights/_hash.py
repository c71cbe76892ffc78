"""A fingerprint of the weights themselves, whatever file holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from hspan.weights._container import read_checkpoint

SHORT = 12


def weights_hash(model: nn.Module | str | PathLike[str]) -> str:
    """Twelve hexadecimal digits that change when any weight does.

    The SHA-256 goes over names, shapes and values in the order of the names, with floating-point
    values as float32. So it doesn't depend on the container (safetensors or PyTorch), on wrappers
    around the weights, on the order in which they were written, or on whether they were stored in
    16 bits or widened to 32 since. A checkpoint under other names (an official one) hashes
    differently from the network that it loads into.

    Args:
        model: a network, or the path of a checkpoint.

    Raises:
        InputError: the file is missing or unreadable.
        WeightsError: the file holds no weights.
    """
    if isinstance(model, nn.Module):
        return content_hash(model.state_dict())[:SHORT]
    return content_hash(read_checkpoint(Path(model)).tensors)[:SHORT]


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """The whole SHA-256 of ``weights_hash``."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu()
        if value.is_floating_point():
            value = value.to(torch.float32)
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)};".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()

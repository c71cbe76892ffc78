"""EDSR and EDSR-baseline as the authors' PyTorch program stores them.

``residual_scale`` leaves no trace in the weights: it is 0.1 at the paper's 256 channels, where the
authors' command sets it, and the program's default of 1 otherwise, unless the caller says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hspan.weights.official._layout import (
    OfficialLayout,
    fold_range,
    numbers,
    rename_all,
    require,
    rgb_range,
    upsampler_scale,
)

_TITLE = "EDSR"

# Official name, ours; the convolution after the last block is added to it.
EDSR_KEYS = {
    "head.0": "head",
    "body.{b}.body.0": "body.{b}.conv1",
    "body.{b}.body.2": "body.{b}.conv2",
    "tail.0.{i}": "upsampler.{i}",
    "tail.1": "tail",
}
# The mean shifts are constants here.
EDSR_DROPPED = ("sub_mean.weight", "sub_mean.bias", "add_mean.weight", "add_mean.bias")


def _num_blocks(tensors: Mapping[str, Tensor]) -> int:
    return len(numbers(tensors, r"body\.(\d+)\.body\.0\.weight"))


def _edsr_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    require(_TITLE, tensors, "head.0.weight")
    channels = tensors["head.0.weight"].shape[0]
    return {
        "scale": upsampler_scale(_TITLE, tensors, "tail.0"),
        "channels": channels,
        "num_blocks": _num_blocks(tensors),
        "residual_scale": 0.1 if channels == 256 else 1.0,
    }


def _edsr_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    value_range = rgb_range(_TITLE, tensors)
    kept = {key: tensor for key, tensor in tensors.items() if key not in EDSR_DROPPED}
    converted = rename_all(kept, {**EDSR_KEYS, f"body.{_num_blocks(tensors)}": "conv"})
    fold_range(_TITLE, converted, value_range, "head", "tail")
    return converted


EDSR_LAYOUT = OfficialLayout(
    title=_TITLE,
    signature=(r"head\.0\.weight", r"body\.\d+\.body\.0\.weight", r"tail\.0\.0\.weight"),
    absent=(r"body\.\d+\.(?!body\.[02]\.).*\..*", r"(?!head|body|tail|sub_mean|add_mean).*"),
    names=("edsr", "edsr-baseline"),
    config=_edsr_config,
    convert=_edsr_convert,
)

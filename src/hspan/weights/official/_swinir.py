"""SwinIR for classical and lightweight super-resolution as its authors' program stores it.

The attention masks that it stores fit the size of its training patches, and the indices of the
position biases follow from the window: both are computed here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hspan.weights.official._layout import (
    OfficialLayout,
    numbers,
    rename_all,
    require,
    upsampler_scale,
)

_TITLE = "SwinIR"

_BLOCK = "layers.{g}.residual_group.blocks.{b}"
# Official name, ours; the upsampler is added to it.
SWINIR_KEYS = {
    "conv_first": "head",
    "patch_embed.norm": "norm1",
    f"{_BLOCK}.norm1": "groups.{g}.blocks.{b}.norm1",
    f"{_BLOCK}.attn.qkv": "groups.{g}.blocks.{b}.attention.qkv",
    f"{_BLOCK}.attn.proj": "groups.{g}.blocks.{b}.attention.projection",
    f"{_BLOCK}.attn": "groups.{g}.blocks.{b}.attention",
    f"{_BLOCK}.norm2": "groups.{g}.blocks.{b}.norm2",
    f"{_BLOCK}.mlp.fc1": "groups.{g}.blocks.{b}.perceptron.0",
    f"{_BLOCK}.mlp.fc2": "groups.{g}.blocks.{b}.perceptron.2",
    "layers.{g}.conv": "groups.{g}.conv",
    "norm": "norm2",
    "conv_after_body": "conv",
}
SWINIR_DROPPED = (
    r"layers\.\d+\.residual_group\.blocks\.\d+\.(attn_mask|attn\.relative_position_index)"
)
_TABLE = "relative_position_bias_table"


def _swinir_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    first = "layers.0.residual_group.blocks.0"
    table, inner = f"{first}.attn.{_TABLE}", f"{first}.mlp.fc1.weight"
    require(_TITLE, tensors, "conv_first.weight", "upsample.0.weight", table, inner)
    channels = tensors["conv_first.weight"].shape[0]
    if _direct(tensors):
        scale = math.isqrt(tensors["upsample.0.weight"].shape[0] // 3)
    else:
        scale = upsampler_scale(_TITLE, tensors, "upsample")
    places, heads = tensors[table].shape
    blocks = r"layers\.{}\.residual_group\.blocks\.(\d+)\.norm1\.weight"
    groups = numbers(tensors, r"layers\.(\d+)\..*")
    return {
        "scale": scale,
        "channels": channels,
        "depths": tuple(len(numbers(tensors, blocks.format(g))) for g in sorted(groups)),
        "num_heads": heads,
        "window": (math.isqrt(places) + 1) // 2,
        "expansion": tensors[inner].shape[0] / channels,
        "upsampler": "pixelshuffledirect" if _direct(tensors) else "pixelshuffle",
    }


def _direct(tensors: Mapping[str, Tensor]) -> bool:
    return "conv_last.weight" not in tensors


def _swinir_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if _direct(tensors):
        ends = {"upsample.{i}": "tail.{i}"}
    else:
        ends = {
            "conv_before_upsample.0": "tail.0",
            "upsample.{i}": "tail.2.{i}",
            "conv_last": "tail.3",
        }
    kept = {
        key.replace(_TABLE, "position_bias"): tensor
        for key, tensor in tensors.items()
        if not re.fullmatch(SWINIR_DROPPED, key)
    }
    return rename_all(kept, {**SWINIR_KEYS, **ends})


SWINIR_LAYOUT = OfficialLayout(
    title=_TITLE,
    signature=(
        r"conv_first\.weight",
        r"layers\.\d+\.residual_group\.blocks\.\d+\.attn\.relative_position_bias_table",
        r"upsample\.0\.weight",
    ),
    names=("swinir", "swinir-light"),
    config=_swinir_config,
    convert=_swinir_convert,
)

"""RCAN, and HAN which is built on it, as their authors' programs store them.

RCAN's mean shifts were trained with the network, and HAN's may come from an RCAN: both are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hspan.weights.official._layout import (
    OfficialLayout,
    fold_stored_range,
    numbers,
    rename_all,
    require,
    upsampler_scale,
)

# Official name, ours; the convolutions after the last block and group are added to it.
RCAN_KEYS = {
    "sub_mean": "subtract_mean",
    "head.0": "head",
    "body.{g}.body.{b}.body.0": "body.{g}.blocks.{b}.conv1",
    "body.{g}.body.{b}.body.2": "body.{g}.blocks.{b}.conv2",
    "body.{g}.body.{b}.body.3.conv_du.0": "body.{g}.blocks.{b}.attention.reduce",
    "body.{g}.body.{b}.body.3.conv_du.2": "body.{g}.blocks.{b}.attention.expand",
    "tail.0.{i}": "upsampler.{i}",
    "tail.1": "tail",
}
HAN_KEYS = {
    **RCAN_KEYS,
    "la": "layer_attention",
    "last_conv": "layer_conv",
    "csa": "channel_spatial_attention",
    "csa.conv": "channel_spatial_attention.conv",
    "last": "fusion",
}
_GATE = r"body\.(\d+)\.body\.(\d+)\.body\.3\.conv_du\.0\.weight"


def _counts(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """Groups, and blocks in each."""
    groups = numbers(tensors, _GATE)
    blocks = numbers(tensors, _GATE.replace("(", "(?:", 1))
    return len(groups), len(blocks)


def _config(title: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    first = "body.0.body.0.body.3.conv_du.0.weight"
    require(title, tensors, "head.0.weight", first)
    channels = tensors["head.0.weight"].shape[0]
    groups, blocks = _counts(tensors)
    return {
        "scale": upsampler_scale(title, tensors, "tail.0"),
        "channels": channels,
        "num_groups": groups,
        "num_blocks": blocks,
        "reduction": channels // tensors[first].shape[0],
    }


def _convert(
    title: str, keys: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    groups, blocks = _counts(tensors)
    last = {f"body.{{g}}.body.{blocks}": "body.{g}.conv", f"body.{groups}": "conv"}
    gates = {key.replace(".gamma", ".weight"): tensor for key, tensor in tensors.items()}
    converted = rename_all(gates, {**keys, **last})
    fold_stored_range(title, converted)
    return converted


RCAN_LAYOUT = OfficialLayout(
    title="RCAN",
    signature=(_GATE,),
    absent=(r"la\.gamma", r"csa\..*"),
    names=("rcan",),
    config=lambda tensors: _config("RCAN", tensors),
    convert=lambda tensors: _convert("RCAN", RCAN_KEYS, tensors),
)
HAN_LAYOUT = OfficialLayout(
    title="HAN",
    signature=(_GATE, r"la\.gamma"),
    names=("han",),
    config=lambda tensors: _config("HAN", tensors),
    convert=lambda tensors: _convert("HAN", HAN_KEYS, tensors),
)

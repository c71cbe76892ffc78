"""RNAN as the authors' program stores it."""

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

_TITLE = "RNAN"

# What is in an attention block: official name, ours.
_BLOCK = {
    "body.0.RA_RB1.0.body": "first",
    "body.0.RA_TB.0.body.{b}.body": "trunk.{b}",
    "body.0.RA_MB.0.MB_RB2.{b}.body": "mask.coarse.{b}",
    "body.0.RA_MB.0.MB_RB3.0.body": "mask.after",
    "body.0.RA_tail.{b}.body": "last.{b}",
}
_OTHER = {
    "body.0.RA_MB.0.MB_RB1.0.theta": "mask.non_local.query",
    "body.0.RA_MB.0.MB_RB1.0.phi": "mask.non_local.key",
    "body.0.RA_MB.0.MB_RB1.0.g": "mask.non_local.value",
    "body.0.RA_MB.0.MB_RB1.0.W": "mask.non_local.project",
    "body.0.RA_MB.0.MB_Down.0": "mask.down",
    "body.0.RA_MB.0.MB_Up.0": "mask.up",
    "body.0.RA_MB.0.MB_1x1conv.0": "mask.gate",
    "body.1": "conv",
}


def _block_keys(official: str, ours: str, non_local: bool) -> dict[str, str]:
    """Official names within one attention block, and ours."""
    first = int(non_local)  # the mask's first residual block stands after the non-local block
    residual = {**_BLOCK, f"body.0.RA_MB.0.MB_RB1.{first}.body": "mask.before"}
    convolutions = {
        f"{theirs}.{layer}": f"{name}.conv{i}"
        for theirs, name in residual.items()
        for i, layer in ((1, 0), (2, 2))
    }
    return {
        f"{official}.{theirs}": f"{ours}.{name}"
        for theirs, name in {**convolutions, **_OTHER}.items()
    }


def _rnan_keys(local_blocks: int) -> dict[str, str]:
    keys = {
        "sub_mean": "subtract_mean",
        "add_mean": "add_mean",
        "head.0": "head",
        f"body.{local_blocks}": "conv",
        "tail.0.{i}": "upsampler.{i}",
        "tail.1": "tail",
    }
    keys |= _block_keys("body_nl_low.0", "body.0", non_local=True)
    keys |= _block_keys("body_nl_high.0", "last", non_local=True)
    for m in range(local_blocks):
        keys |= _block_keys(f"body.{m}", f"body.{m + 1}", non_local=False)
    return keys


def _rnan_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    inner = "body_nl_low.0.body.0.RA_MB.0.MB_RB1.0.theta.weight"
    require(_TITLE, tensors, "head.0.weight", inner)
    channels = tensors["head.0.weight"].shape[0]
    return {
        "scale": upsampler_scale(_TITLE, tensors, "tail.0"),
        "channels": channels,
        "num_blocks": _local_blocks(tensors) + 2,
        "inner_reduction": channels // tensors[inner].shape[0],
    }


def _local_blocks(tensors: Mapping[str, Tensor]) -> int:
    return len(numbers(tensors, r"body\.(\d+)\.body\..*"))


def _rnan_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    converted = rename_all(tensors, _rnan_keys(_local_blocks(tensors)))
    fold_stored_range(_TITLE, converted)
    return converted


RNAN_LAYOUT = OfficialLayout(
    title=_TITLE,
    signature=(r"body_nl_low\.0\..*", r"body_nl_high\.0\..*"),
    names=("rnan",),
    config=_rnan_config,
    convert=_rnan_convert,
)

"""SAN as the authors' program stores it, with its weights that compute nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hspan.weights.official._layout import (
    OfficialLayout,
    fold_stored_range,
    numbers,
    rename_all,
    require,
    upsampler_scale,
)

_TITLE = "SAN"

# Official name, ours. {g} counts groups, {b} the residual blocks in one of them.
SAN_KEYS = {
    "sub_mean": "subtract_mean",
    "add_mean": "add_mean",
    "head.0": "head",
    "non_local.non_local.theta": "non_local.query",
    "non_local.non_local.phi.0": "non_local.key",
    "non_local.non_local.g.0": "non_local.value",
    "non_local.non_local.W": "non_local.project",
    "RG.{g}.rcab.{b}.conv_first.0": "body.{g}.blocks.{b}.conv1",
    "RG.{g}.rcab.{b}.conv_first.2": "body.{g}.blocks.{b}.conv2",
    "RG.{g}.conv_last": "body.{g}.conv",
    "conv_last": "conv",
    "non_local.soca.conv_du.0": "unused.reduce",
    "non_local.soca.conv_du.2": "unused.expand",
    "tail.0.{i}": "upsampler.{i}",
    "tail.1": "tail",
}


def _san_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    require(
        _TITLE,
        tensors,
        "head.0.weight",
        "RG.0.soca.conv_du.0.weight",
        "non_local.non_local.theta.weight",
    )
    channels = tensors["head.0.weight"].shape[0]
    return {
        "scale": upsampler_scale(_TITLE, tensors, "tail.0"),
        "channels": channels,
        "num_groups": len(numbers(tensors, r"RG\.(\d+)\..*")),
        "num_blocks": len(numbers(tensors, r"RG\.\d+\.rcab\.(\d+)\..*")),
        "reduction": channels // tensors["RG.0.soca.conv_du.0.weight"].shape[0],
        "inner_reduction": channels // tensors["non_local.non_local.theta.weight"].shape[0],
    }


def _san_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    scales = [f"RG.{g}.gamma" for g in sorted(numbers(tensors, r"RG\.(\d+)\..*"))]
    require(_TITLE, tensors, "gamma", *scales)
    kept = {k: t for k, t in tensors.items() if k not in ("gamma", *scales)}
    # The channel attention follows the residual blocks.
    attention = len(numbers(tensors, r"RG\.\d+\.rcab\.(\d+)\..*"))
    keys = {
        **SAN_KEYS,
        "RG.{g}.soca.conv_du.0": f"body.{{g}}.blocks.{attention}.reduce",
        "RG.{g}.soca.conv_du.2": f"body.{{g}}.blocks.{attention}.expand",
    }
    converted = rename_all(kept, keys)
    converted["shared_scale"] = tensors["gamma"].float()
    converted["unused.group_scales"] = torch.cat([tensors[key].float() for key in scales])
    fold_stored_range(_TITLE, converted)
    return converted


SAN_LAYOUT = OfficialLayout(
    title=_TITLE,
    signature=(r"RG\.\d+\.rcab\.\d+\.conv_first\.0\.weight", r"non_local\.non_local\..*"),
    names=("san",),
    config=_san_config,
    convert=_san_convert,
)

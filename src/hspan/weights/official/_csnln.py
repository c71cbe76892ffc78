"""CSNLN as the authors' program stores it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hspan.weights.official._layout import (
    OfficialLayout,
    fold_range,
    rename_all,
    require,
    rgb_range,
)

_TITLE = "CSNLN"

# Official name, ours: what fuses the attentions, and the cell around it.
_SOURCES = {
    "up_attention.conv_match_1.{i}": "cross_scale.query.{i}",
    "up_attention.conv_match_2.{i}": "cross_scale.key.{i}",
    "up_attention.conv_assembly.{i}": "cross_scale.value.{i}",
    "down_attention.conv_match1.{i}": "in_scale.query.{i}",
    "down_attention.conv_match2.{i}": "in_scale.key.{i}",
    "down_attention.conv_assembly.{i}": "in_scale.value.{i}",
    "upsample.{i}": "enlarge.{i}",
    "encoder.body.0": "encode.conv1",
    "encoder.body.1": "encode.activation",
    "encoder.body.2": "encode.conv2",
}
_FIRST = "SEM.multi_source_projection"
_SECOND = f"{_FIRST}_2"  # only ×4 has it
CSNLN_KEYS = {
    **{f"{_FIRST}.{k}": f"mining.stages.0.sources.{v}" for k, v in _SOURCES.items()},
    **{f"{_SECOND}.{k}": f"mining.stages.1.sources.{v}" for k, v in _SOURCES.items()},
    "SEM.down_sample_1.{i}": "mining.stages.0.reduce.{i}",
    "SEM.error_encode.{i}": "mining.stages.0.correct.{i}",
    "SEM.down_sample_3.{i}": "mining.stages.1.reduce.{i}",
    "SEM.error_encode_2.{i}": "mining.stages.1.correct.{i}",
    "SEM.post_conv.{i}": "mining.post.{i}",
    "tail.0": "tail",
}
# The mean shifts and the floor of a patch's norm are constants here.
CSNLN_DROPPED = (
    r"(sub|add)_mean\.(weight|bias)|SEM\.multi_source_projection(_2)?\.up_attention\.escape_NaN"
)


def _csnln_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    enlarge = f"{_FIRST}.upsample.0.weight"
    match = f"{_FIRST}.up_attention.conv_match_1.0.weight"
    require(_TITLE, tensors, enlarge, match, "tail.0.weight")
    channels = tensors[match].shape[1]
    factor = tensors[enlarge].shape[-1] // 3
    return {
        "scale": 4 if any(key.startswith(_SECOND) for key in tensors) else factor,
        "channels": channels,
        "depth": tensors["tail.0.weight"].shape[1] // channels,
        "reduction": channels // tensors[match].shape[0],
    }


def _csnln_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    value_range = rgb_range(_TITLE, tensors)
    kept = {k: t for k, t in tensors.items() if not re.fullmatch(CSNLN_DROPPED, k)}
    summary = 4 if any(key.startswith(_SECOND) for key in tensors) else 2
    summary_keys = {f"SEM.down_sample_{summary}.{{i}}": "mining.summary.{i}"}
    converted = rename_all(kept, {**CSNLN_KEYS, **summary_keys})
    fold_range(_TITLE, converted, value_range, "head.0.0", "tail")
    return converted


CSNLN_LAYOUT = OfficialLayout(
    title=_TITLE,
    signature=(r"SEM\.multi_source_projection\..*",),
    names=("csnln",),
    config=_csnln_config,
    convert=_csnln_convert,
)

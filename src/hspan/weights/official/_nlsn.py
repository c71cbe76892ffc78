"""NLSN and ENLCN as their authors' programs store them: EDSR with attention between the blocks.

The residual scale and NLSN's chunk and number of rounds leave no trace in the weights: they are
the configuration's defaults unless the caller says otherwise.
"""

from __future__ import annotations

import re
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

# Official name, ours. {b} counts attentions and residual blocks together.
_SHARED_KEYS = {
    "head.0": "head",
    "body.{b}.conv_assembly.0": "body.{b}.value",
    "body.{b}.body.0": "body.{b}.conv1",
    "body.{b}.body.2": "body.{b}.conv2",
    "tail.0.{i}": "upsampler.{i}",
    "tail.1": "tail",
}
NLSN_KEYS = {"body.{b}.conv_match.0": "body.{b}.match", **_SHARED_KEYS}
ENLCN_KEYS = {
    "body.{b}.conv_match1.0": "body.{b}.query",
    "body.{b}.conv_match2.0": "body.{b}.key",
    "body.{b}.attn_fn": "body.{b}",  # its projection_matrix
    **_SHARED_KEYS,
}
# The mean shifts are constants here.
NLSN_DROPPED = r"(sub|add)_mean\.(weight|bias)"


def _config(title: str, match: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    require(title, tensors, "head.0.weight", f"body.0.{match}.0.weight")
    channels = tensors["head.0.weight"].shape[0]
    attentions = numbers(tensors, rf"body\.(\d+)\.{match}\.0\.weight")
    blocks = numbers(tensors, r"body\.(\d+)\.body\.0\.weight")
    return {
        "scale": upsampler_scale(title, tensors, "tail.0"),
        "channels": channels,
        "num_blocks": len(blocks),
        # With a single attention, nothing follows it within the blocks there are.
        "interval": min(attentions - {0}, default=len(blocks) + 2) - 1,
        "reduction": channels // tensors[f"body.0.{match}.0.weight"].shape[0],
    }


def _convert(
    title: str, keys: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    value_range = rgb_range(title, tensors)
    kept = {k: t for k, t in tensors.items() if not re.fullmatch(NLSN_DROPPED, k)}
    # The convolution follows the last attention or block.
    blocks = numbers(tensors, r"body\.(\d+)\.(?:body|conv_assembly)\.0\.weight")
    converted = rename_all(kept, {**keys, f"body.{len(blocks)}": "conv"})
    fold_range(title, converted, value_range, "head", "tail")
    return converted


NLSN_LAYOUT = OfficialLayout(
    title="NLSN",
    signature=(r"body\.\d+\.conv_match\.0\.weight",),
    names=("nlsn",),
    config=lambda tensors: _config("NLSN", "conv_match", tensors),
    convert=lambda tensors: _convert("NLSN", NLSN_KEYS, tensors),
)


def _enlcn_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    require("ENLCN", tensors, "body.0.attn_fn.projection_matrix")
    projections = tensors["body.0.attn_fn.projection_matrix"].shape[0]
    return {**_config("ENLCN", "conv_match1", tensors), "projections": projections}


ENLCN_LAYOUT = OfficialLayout(
    title="ENLCN",
    signature=(r"body\.\d+\.attn_fn\.projection_matrix",),
    names=("enlcn",),
    config=_enlcn_config,
    convert=lambda tensors: _convert("ENLCN", ENLCN_KEYS, tensors),
)

"""IGNN as the authors' program stores it.

The VGG features that it compares patches by are in the checkpoint, twice. ``residual_scale`` leaves
no trace: it is the configuration's default unless the caller says otherwise.
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

_TITLE = "IGNN"

# Official name, ours. What follows the blocks in body2, and what tail holds, is added to it.
IGNN_KEYS = {
    "vggnet.model.0": "compared.conv1",
    "vggnet.model.2": "compared.conv2",
    "head.0": "head",
    "body1.{b}.body.0": "before.{b}.conv1",
    "body1.{b}.body.2": "before.{b}.conv2",
    "gcn.knn_downsample.0.0": "exchange.reduce.0",
    "gcn.knn_downsample.1.0": "exchange.reduce.2",
    "gcn.knn_downsample.2.0": "exchange.reduce.4",
    "gcn.weightnet_lr.0.0": "exchange.low_weight.0",
    "gcn.weightnet_lr.1.body.0": "exchange.low_weight.1.conv1",
    "gcn.weightnet_lr.1.body.2": "exchange.low_weight.1.conv2",
    "gcn.weightnet_lr.2.0": "exchange.low_weight.2",
    "gcn.weightnet_hr.0.0": "exchange.high_weight.0",
    "gcn.weightnet_hr.1.body.0": "exchange.high_weight.1.conv1",
    "gcn.weightnet_hr.1.body.2": "exchange.high_weight.1.conv2",
    "gcn.weightnet_hr.2.0": "exchange.high_weight.2",
    "fuse_b.0.0": "fuse_low.0",
    "fuse_b.1.0": "fuse_low.2",
    "body2.{b}.body.0": "after.{b}.conv1",
    "body2.{b}.body.2": "after.{b}.conv2",
    "body2.{b}.0": "after.{b}",
    "upsample.{i}": "enlarge.{i}",
    "fuse_up.0.0": "fuse_high.0",
    "fuse_up.1.0": "fuse_high.2",
}
_DOUBLE_TAIL = {"tail.0.{i}": "upsampler.{i}", "tail.1.0": "tail"}  # ×4
_SINGLE_TAIL = {"tail.0.0": "tail"}
# The mean shifts are constants here, and graph.embedcnn is vggnet under another name.
IGNN_DROPPED = (
    r"((graph\.embedcnn|vggnet)\.sub_mean|(sub|add)_mean)\.(weight|bias)"
    r"|graph\.embedcnn\.model\.[02]\.(weight|bias)"
)


def _ignn_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    require(_TITLE, tensors, "head.0.weight")
    scale = upsampler_scale(_TITLE, tensors, "upsample")
    blocks = (numbers(tensors, rf"body{half}\.(\d+)\.body\..*") for half in (1, 2))
    return {
        "scale": scale * 2 if "tail.1.0.weight" in tensors else scale,
        "channels": tensors["head.0.weight"].shape[0],
        "num_blocks": sum(map(len, blocks)),
    }


def _ignn_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    value_range = rgb_range(_TITLE, tensors)
    kept = {k: t for k, t in tensors.items() if not re.fullmatch(IGNN_DROPPED, k)}
    tail = _DOUBLE_TAIL if "tail.1.0.weight" in tensors else _SINGLE_TAIL
    converted = rename_all(kept, {**IGNN_KEYS, **tail})
    fold_range(_TITLE, converted, value_range, "head", "tail")
    return converted


IGNN_LAYOUT = OfficialLayout(
    title=_TITLE,
    signature=(r"vggnet\.model\.0\.weight", r"gcn\.knn_downsample\..*"),
    names=("ignn",),
    config=_ignn_config,
    convert=_ignn_convert,
)

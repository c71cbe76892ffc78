"""The DBPN networks as their authors' program stores them.

DBPN and the recurrent DBPN-RES-MR64-3 have the same units: what the last convolution takes in
tells them apart. Whether the program was to add the enlarged input leaves no trace in the weights:
it wasn't, unless the caller says ``add_bicubic=True``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hspan.errors import WeightsError
from hspan.models.dbpn import KERNELS
from hspan.weights.official._layout import OfficialLayout, numbers, rename_all, require

_TITLE = "DBPN"


def _num_stages(tensors: Mapping[str, Tensor]) -> int:
    return len(numbers(tensors, r"up(\d+)\.up_conv1\.deconv\.weight"))


def _dbpn_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    first = "up1.up_conv1.deconv.weight"
    require(_TITLE, tensors, "feat0.conv.weight", first, "output_conv.conv.weight")
    channels, _, kernel, _ = tensors[first].shape
    scale = next((scale for scale, size in KERNELS.items() if size == kernel), None)
    if scale is None:
        raise WeightsError(f"{first} of an official DBPN has a kernel of no known scale: {kernel}")
    stages = _num_stages(tensors)
    collected = tensors["output_conv.conv.weight"].shape[1] // channels
    return {
        "scale": scale,
        "channels": channels,
        "shallow_channels": tensors["feat0.conv.weight"].shape[0],
        "num_stages": stages,
        "num_passes": None if collected == stages else collected,
    }


def _dbpn_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    keys = {"output_conv.conv": "tail"}

    def activated(official: str, ours: str, kind: str = "conv") -> None:
        keys[f"{official}.{kind}"] = f"{ours}.0"
        keys[f"{official}.act"] = f"{ours}.1"

    activated("feat0", "head")
    activated("feat1", "reduce")
    for i in range(_num_stages(tensors)):
        for way, kinds in (("up", ("deconv", "conv")), ("down", ("conv", "deconv"))):
            unit, ours = f"{way}{i + 1}", f"{way}.{i}"
            activated(f"{unit}.conv", f"{ours}.joint")
            activated(f"{unit}.{way}_conv1", f"{ours}.forth", kinds[0])
            activated(f"{unit}.{way}_conv2", f"{ours}.back", kinds[1])
            activated(f"{unit}.{way}_conv3", f"{ours}.again", kinds[0])
    return rename_all(tensors, keys)


DBPN_LAYOUT = OfficialLayout(
    title=_TITLE,
    signature=(r"feat0\.conv\.weight", r"up\d+\.up_conv1\.deconv\.weight"),
    names=("dbpn", "dbpn-ll", "dbpn-res-mr64-3"),
    config=_dbpn_config,
    convert=_dbpn_convert,
)

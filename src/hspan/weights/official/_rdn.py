"""RDN as the PyTorch program that its authors point to stores it.

There is no mean shift, and ``rgb_range`` leaves no trace in the weights: it is the program's
default of 255 unless the caller says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hspan.weights.official._layout import OfficialLayout, numbers, rename_all, require

_TITLE = "RDN"

# Official name, ours; the last convolution of UPNet is added to it.
RDN_KEYS = {
    "SFENet1": "head",
    "SFENet2": "shallow",
    "RDBs.{d}.convs.{c}.conv.0": "blocks.{d}.layers.{c}.conv",
    "RDBs.{d}.LFF": "blocks.{d}.fusion",
    "GFF.0": "fusion",
    "GFF.1": "conv",
}


def _upsampler(tensors: Mapping[str, Tensor]) -> list[int]:
    """Places of UPNet's convolutions, the last of which makes the image."""
    return sorted(numbers(tensors, r"UPNet\.(\d+)\.weight"))


def _rdn_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    require(_TITLE, tensors, "SFENet1.weight", "RDBs.0.convs.0.conv.0.weight", "UPNet.0.weight")
    growth = tensors["RDBs.0.convs.0.conv.0.weight"].shape[0]
    steps = [tensors[f"UPNet.{i}.weight"].shape[0] // growth for i in _upsampler(tensors)[:-1]]
    return {
        "scale": math.isqrt(math.prod(steps)),
        "channels": tensors["SFENet1.weight"].shape[0],
        "growth": growth,
        "num_blocks": len(numbers(tensors, r"RDBs\.(\d+)\.LFF\.weight")),
        "num_layers": len(numbers(tensors, r"RDBs\.0\.convs\.(\d+)\.conv\.0\.weight")),
    }


def _rdn_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    *steps, last = _upsampler(tensors)
    ends = {f"UPNet.{i}": f"upsampler.{i}" for i in steps}
    return rename_all(tensors, {**RDN_KEYS, **ends, f"UPNet.{last}": "tail"})


RDN_LAYOUT = OfficialLayout(
    title=_TITLE,
    signature=(r"SFENet1\.weight", r"RDBs\.\d+\.LFF\.weight"),
    names=("rdn",),
    config=_rdn_config,
    convert=_rdn_convert,
)

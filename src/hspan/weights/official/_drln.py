"""DRLN as its authors' program stores it.

Modules b1, b2... and the convolutions after them, c1, c2..., are numbered through all cascades; a
cascade begins where a convolution joins only two feature maps. ``rgb_range`` leaves no trace in
the weights, not even in the mean shifts: it is the program's default of 255 unless the caller says
otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hspan.errors import WeightsError
from hspan.weights.official._layout import (
    OfficialLayout,
    numbers,
    rename_all,
    require,
    upsampler_scale,
)

_TITLE = "DRLN"

# Official name, ours; what is in the cascades is added to it.
DRLN_KEYS = {
    "sub_mean.shifter": "subtract_mean",
    "add_mean.shifter": "add_mean",
    "head": "head",
    "upsample.up.body.{i}": "upsampler.{i}",
    "tail": "tail",
}
# Inside a module.
MODULE_KEYS = {
    **{f"r{i + 1}.body.0": f"units.{i}.conv1" for i in range(3)},
    **{f"r{i + 1}.body.2": f"units.{i}.conv2" for i in range(3)},
    "g.body.0": "compression",
    **{f"ca.c{i + 1}.body.0": f"attention.pyramid.{i}" for i in range(3)},
    "ca.c4.body.0": "attention.expand",
}


def _cascades(tensors: Mapping[str, Tensor]) -> list[list[int]]:
    """The numbers of each cascade's modules."""
    require(_TITLE, tensors, "head.weight")
    channels = tensors["head.weight"].shape[0]
    cascades: list[list[int]] = []
    for number in sorted(numbers(tensors, r"c(\d+)\.body\.0\.weight")):
        if tensors[f"c{number}.body.0.weight"].shape[1] == 2 * channels:
            cascades.append([])
        if not cascades:
            raise WeightsError(f"c{number}.body.0.weight of an official DRLN begins no cascade")
        cascades[-1].append(number)
    return cascades


def _drln_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    require(_TITLE, tensors, "head.weight", "b1.ca.c1.body.0.weight")
    channels = tensors["head.weight"].shape[0]
    return {
        "scale": upsampler_scale(_TITLE, tensors, "upsample.up.body"),
        "channels": channels,
        "cascades": tuple(len(cascade) for cascade in _cascades(tensors)),
        "reduction": channels // tensors["b1.ca.c1.body.0.weight"].shape[0],
    }


def _drln_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    keys = dict(DRLN_KEYS)
    for i, cascade in enumerate(_cascades(tensors)):
        for place, number in enumerate(cascade):
            keys[f"c{number}.body.0"] = f"cascades.{i}.fusions.{place}"
            for official, ours in MODULE_KEYS.items():
                keys[f"b{number}.{official}"] = f"cascades.{i}.blocks.{place}.{ours}"
    return rename_all(tensors, keys)


DRLN_LAYOUT = OfficialLayout(
    title=_TITLE,
    signature=(r"b\d+\.r1\.body\.0\.weight", r"b\d+\.ca\.c1\.body\.0\.weight"),
    names=("drln",),
    config=_drln_config,
    convert=_drln_convert,
)

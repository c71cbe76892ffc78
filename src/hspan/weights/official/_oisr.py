"""The OISR networks as their authors' programs store them, one program for each.

The programs number convolutions, PReLUs and coefficients from 1. Their mean shifts were trained
with the network and are loaded.
"""

from __future__ import annotations

import re
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

_TITLE = "OISR"

# Official name, ours; the convolution after the last block is added to it.
OISR_KEYS = {
    "sub_mean": "subtract_mean",
    "head.0": "head",
    **{f"body.{{b}}.conv{i + 1}": f"body.{{b}}.convs.{i}" for i in range(4)},
    **{f"body.{{b}}.relu{i + 1}": f"body.{{b}}.activations.{i}" for i in range(4)},
    "tail.0.{i}": "upsampler.{i}",
    "tail.1": "tail",
}


def _num_blocks(tensors: Mapping[str, Tensor]) -> int:
    return len(numbers(tensors, r"body\.(\d+)\.conv1\.weight"))


def _oisr_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    require(_TITLE, tensors, "head.0.weight")
    if "body.0.scale5" in tensors:
        method = "rk3"
    else:
        method = "lf" if "body.0.scale4" in tensors else "rk2"
    return {
        "scale": upsampler_scale(_TITLE, tensors, "tail.0"),
        "method": method,
        "channels": tensors["head.0.weight"].shape[0],
        "num_blocks": _num_blocks(tensors),
    }


def _oisr_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    def coefficient(key: str) -> str:
        match = re.fullmatch(r"(body\.\d+)\.scale([1-5])", key)
        return f"{match[1]}.coefficients.{int(match[2]) - 1}" if match else key

    keys = {**OISR_KEYS, f"body.{_num_blocks(tensors)}": "conv"}
    converted = rename_all({coefficient(k): t for k, t in tensors.items()}, keys)
    fold_stored_range(_TITLE, converted)
    return converted


OISR_LAYOUT = OfficialLayout(
    title=_TITLE,
    signature=(r"body\.\d+\.scale1", r"body\.\d+\.relu1\.weight"),
    names=("oisr-rk3", "oisr-rk2-s", "oisr-lf-s", "oisr-rk2-m", "oisr-lf-m"),
    config=_oisr_config,
    convert=_oisr_convert,
)

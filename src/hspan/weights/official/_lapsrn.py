"""LapSRN: the authors' MatConvNet files and the usual PyTorch port.

MatConvNet's levels are counted from the output: the first to run has the highest number. Its
transposed convolutions of features are 3×3 and cut below and at the right, which is a 4×4 filter
with a first row and column of zeros.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from hspan.weights.official._layout import OfficialLayout, numbers, renamed, require
from hspan.weights.official._matlab import filters

_TITLE = "LapSRN"


def _matlab_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    require(_TITLE, tensors, "input_conv_f")
    levels = len(numbers(tensors, r"level(\d+)_.*"))
    return {
        "scale": 2**levels,
        "channels": tensors["input_conv_f"].shape[-1],
        "depth": len(numbers(tensors, r"level1_conv(\d+)_f")),
        "num_levels": levels,
        "bias": True,
    }


def _matlab_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    levels = len(numbers(tensors, r"level(\d+)_.*"))
    depth = len(numbers(tensors, r"level1_conv(\d+)_f"))

    def place(stem: str) -> str | None:
        if stem == "input_conv":
            return "head"
        if (
            match := re.fullmatch(r"level(\d+)_(conv(\d+)|upconv|residual_conv|img_up)", stem)
        ) is None:
            return None
        part = {
            "upconv": f"features.{2 * depth}",
            "residual_conv": "residual",
            "img_up": "image",
        }.get(match[2]) or f"features.{2 * int(match[3]) - 2}"
        return f"levels.{levels - int(match[1])}.{part}"

    converted: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        stem, _, kind = key.rpartition("_")
        ours = place(stem)
        if ours is None or kind not in ("f", "b"):
            converted[key] = tensor
        elif kind == "b":
            converted[f"{ours}.bias"] = tensor.flatten()
        else:
            weight = filters(tensor)
            if stem.endswith("upconv") and weight.shape[-1] == 3:
                weight = F.pad(weight, (1, 0, 1, 0))
            converted[f"{ours}.weight"] = weight
    return converted


def _port_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    require(_TITLE, tensors, "conv_input.weight")
    levels = len(numbers(tensors, r"convt_F(\d+)\..*"))
    return {
        "scale": 2**levels,
        "channels": tensors["conv_input.weight"].shape[0],
        "depth": len(numbers(tensors, r"convt_F1\.0\.cov_block\.(\d+)\.weight")) - 1,
        "num_levels": levels,
        "bias": "conv_input.bias" in tensors,
    }


def _port_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    table = {"conv_input": "head"}
    for level in numbers(tensors, r"convt_[FIR](\d+)\..*"):
        ours = f"levels.{level - 1}"
        table |= {
            f"convt_F{level}.0.cov_block.{{i}}": f"{ours}.features.{{i}}",
            f"convt_I{level}": f"{ours}.image",
            f"convt_R{level}": f"{ours}.residual",
        }
    return {renamed(key, table): tensor for key, tensor in tensors.items()}


LAPSRN_MATLAB = OfficialLayout(
    title=_TITLE,
    signature=(r"input_conv_f", r"level1_residual_conv_f", r"level1_img_up_f"),
    names=("lapsrn",),
    config=_matlab_config,
    convert=_matlab_convert,
)
LAPSRN_PORT = OfficialLayout(
    title=_TITLE,
    signature=(r"conv_input\.weight", r"convt_F1\.0\.cov_block\.0\.weight", r"convt_I1\.weight"),
    names=("lapsrn",),
    config=_port_config,
    convert=_port_convert,
)

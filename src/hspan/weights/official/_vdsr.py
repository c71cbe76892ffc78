"""VDSR: the authors' MATLAB file and the usual PyTorch port. Neither tells a scale: it has none."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hspan.weights.official._layout import OfficialLayout, numbers, renamed, require
from hspan.weights.official._matlab import filters

_TITLE = "VDSR"


def _matlab_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    require(_TITLE, tensors, "weight.0")
    layers = len(numbers(tensors, r"weight\.(\d+)"))
    return {"channels": tensors["weight.0"].shape[-1], "num_layers": layers, "bias": True}


def _matlab_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    converted: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        kind, _, number = key.partition(".")
        if kind in ("weight", "bias") and number.isdecimal():
            value = filters(tensor) if kind == "weight" else tensor.flatten()
            converted[f"body.{2 * int(number)}.{kind}"] = value
        else:
            converted[key] = tensor
    return converted


def _port_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    require(_TITLE, tensors, "input.weight")
    return {
        "channels": tensors["input.weight"].shape[0],
        "num_layers": len(numbers(tensors, r"residual_layer\.(\d+)\..*")) + 2,
        "bias": "input.bias" in tensors,
    }


def _port_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    inner = len(numbers(tensors, r"residual_layer\.(\d+)\..*"))
    table = {"input": "body.0", "output": f"body.{2 * inner + 2}"}
    table |= {f"residual_layer.{i}.conv": f"body.{2 * i + 2}" for i in range(inner)}
    return {renamed(key, table): tensor for key, tensor in tensors.items()}


VDSR_MATLAB = OfficialLayout(
    title=_TITLE,
    signature=(r"weight\.\d+", r"bias\.\d+"),
    names=("vdsr",),
    config=_matlab_config,
    convert=_matlab_convert,
)
VDSR_PORT = OfficialLayout(
    title=_TITLE,
    signature=(r"input\.weight", r"residual_layer\.\d+\.conv\.weight", r"output\.weight"),
    names=("vdsr",),
    config=_port_config,
    convert=_port_convert,
)

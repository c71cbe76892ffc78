"""SRCNN: the authors' MATLAB files and the usual PyTorch ports. The scale leaves no trace."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hspan.weights.official._layout import OfficialLayout, renamed, require
from hspan.weights.official._matlab import column_filters

_TITLE = "SRCNN"
_LAYERS = (1, 2, 3)

_PORT_KEYS = {
    "conv1": "body.0",
    "conv2": "body.2",
    "conv3": "body.4",
    # another port
    "features.0": "body.0",
    "map.0": "body.2",
    "reconstruction": "body.4",
}


def _matlab_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    weights = [f"weights_conv{i}" for i in _LAYERS]
    require(_TITLE, tensors, *weights)
    first, second, third = (tensors[key] for key in weights)
    sides = (first.shape[0], second.shape[1], third.shape[1])
    return {
        "channels": (first.shape[1], second.shape[2]),
        "kernel_sizes": tuple(map(math.isqrt, sides)),
        "padding": "replicate",
    }


def _matlab_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    converted = dict(tensors)
    for i in _LAYERS:
        place = f"body.{2 * i - 2}"
        if (weight := converted.pop(f"weights_conv{i}", None)) is not None:
            # [k², out], [in, k², out] and [in, k²]
            weight = weight.unsqueeze(0) if i == 1 else weight
            weight = weight.unsqueeze(-1) if i == 3 else weight
            converted[f"{place}.weight"] = column_filters(weight)
        if (bias := converted.pop(f"biases_conv{i}", None)) is not None:
            converted[f"{place}.bias"] = bias.flatten()
    return converted


def _port_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    converted = _port_convert(tensors)
    require(_TITLE, converted, "body.0.weight", "body.2.weight", "body.4.weight")
    weights = [converted[f"body.{i}.weight"] for i in (0, 2, 4)]
    return {
        "channels": tuple(weight.shape[0] for weight in weights[:2]),
        "kernel_sizes": tuple(weight.shape[-1] for weight in weights),
        "padding": "zeros",
    }


def _port_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {renamed(key, _PORT_KEYS): tensor for key, tensor in tensors.items()}


SRCNN_MATLAB = OfficialLayout(
    title=_TITLE,
    signature=(r"weights_conv1", r"biases_conv1"),
    names=("srcnn",),
    config=_matlab_config,
    convert=_matlab_convert,
)
SRCNN_PORT = OfficialLayout(
    title=_TITLE,
    signature=(
        r"(conv1|features\.0)\.weight",
        r"(conv2|map\.0)\.weight",
        r"(conv3|reconstruction)\.weight",
    ),
    absent=(r"conv4\..*",),
    names=("srcnn",),
    config=_port_config,
    convert=_port_convert,
)

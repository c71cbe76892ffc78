"""FSRCNN: the authors' MATLAB files and the usual PyTorch ports. The scale leaves no trace."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hspan.weights.official._layout import OfficialLayout, numbers, renamed, require
from hspan.weights.official._matlab import column_filters

_TITLE = "FSRCNN"


def _matlab_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    require(_TITLE, tensors, "weights_conv.0", "weights_conv.1")
    return {
        "channels": tensors["weights_conv.0"].shape[2],
        "inner_channels": tensors["weights_conv.1"].shape[2],
        "num_mappings": len(numbers(tensors, r"weights_conv\.(\d+)")) - 4,
        "channel_slopes": False,
        "matlab": True,
    }


def _matlab_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    count = len(numbers(tensors, r"weights_conv\.(\d+)"))
    places = ["extract", "shrink", *(f"mapping.{i}" for i in range(count - 4)), "expand", "deconv"]
    converted = dict(tensors)
    for i, place in enumerate(places):
        conv = place if place == "deconv" else f"{place}.0"
        if (weight := converted.pop(f"weights_conv.{i}", None)) is not None:
            # The last filter stands as [1, k², in], which is a transposed convolution's order.
            converted[f"{conv}.weight"] = column_filters(weight)
        if (bias := converted.pop(f"biases_conv.{i}", None)) is not None:
            converted[f"{conv}.bias"] = bias.flatten()
        if (slope := converted.pop(f"prelu_conv.{i}", None)) is not None:
            converted[f"{place}.1.weight"] = slope.flatten()
    return converted


def _port_keys(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    mappings = len(numbers(tensors, r"mid_part\.(\d+)\.weight")) // 2 - 2
    mappings = max(mappings, len(numbers(tensors, r"map\.(\d+)\.weight")) // 2)
    table = {
        "first_part.{i}": "extract.{i}",
        "last_part": "deconv",
        # another port
        "feature_extraction.{i}": "extract.{i}",
        "shrink.{i}": "shrink.{i}",
        "expand.{i}": "expand.{i}",
        "deconv": "deconv",
    }
    for i, place in enumerate(
        ["shrink", *(f"mapping.{m}" for m in range(max(mappings, 0))), "expand"]
    ):
        table |= {f"mid_part.{2 * i}": f"{place}.0", f"mid_part.{2 * i + 1}": f"{place}.1"}
    for m in range(mappings):
        table |= {f"map.{2 * m}": f"mapping.{m}.0", f"map.{2 * m + 1}": f"mapping.{m}.1"}
    return table


def _port_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    converted = _port_convert(tensors)
    require(_TITLE, converted, "extract.0.weight", "extract.1.weight", "shrink.0.weight")
    return {
        "channels": converted["extract.0.weight"].shape[0],
        "inner_channels": converted["shrink.0.weight"].shape[0],
        "num_mappings": len(numbers(converted, r"mapping\.(\d+)\.0\.weight")),
        "channel_slopes": converted["extract.1.weight"].numel() > 1,
        "matlab": False,
    }


def _port_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    table = _port_keys(tensors)
    return {renamed(key, table): tensor for key, tensor in tensors.items()}


FSRCNN_MATLAB = OfficialLayout(
    title=_TITLE,
    signature=(r"weights_conv\.\d+", r"prelu_conv\.\d+"),
    names=("fsrcnn",),
    config=_matlab_config,
    convert=_matlab_convert,
)
FSRCNN_PORT = OfficialLayout(
    title=_TITLE,
    signature=(
        r"(first_part|feature_extraction)\.0\.weight",
        r"(mid_part|map)\.\d+\.weight",
        r"(last_part|deconv)\.weight",
    ),
    names=("fsrcnn",),
    config=_port_config,
    convert=_port_convert,
)

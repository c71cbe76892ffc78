"""MemNet as PyTorch ports store it: with biases and weights of the blocks, or without either.

The authors' own file is Caffe's and isn't read here.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hspan.weights.official._layout import OfficialLayout, numbers, renamed, require

_TITLE = "MemNet"

_KEYS = {
    "feature_extractor.bn": "head.norm",
    "feature_extractor.conv": "head.conv",
    "dense_memory.{b}.recursive_unit.{r}.relu_conv1.bn": "blocks.{b}.norm1.{r}",
    "dense_memory.{b}.recursive_unit.{r}.relu_conv1.conv": "blocks.{b}.conv1.{r}",
    "dense_memory.{b}.recursive_unit.{r}.relu_conv2.bn": "blocks.{b}.norm2.{r}",
    "dense_memory.{b}.recursive_unit.{r}.relu_conv2.conv": "blocks.{b}.conv2.{r}",
    "dense_memory.{b}.gate_unit.bn": "blocks.{b}.gate.norm",
    "dense_memory.{b}.gate_unit.conv": "blocks.{b}.gate.conv",
    "reconstructor.bn": "tail.norm",
    "reconstructor.conv": "tail.conv",
}


def _config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    require(_TITLE, tensors, "feature_extractor.conv.weight")
    return {
        "channels": tensors["feature_extractor.conv.weight"].shape[0],
        "num_blocks": len(numbers(tensors, r"dense_memory\.(\d+)\..*")),
        "num_recursions": len(numbers(tensors, r"dense_memory\.\d+\.recursive_unit\.(\d+)\..*")),
        "shared": False,
        "bias": "feature_extractor.conv.bias" in tensors,
        "supervised": "weights" in tensors,
    }


def _convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    converted = {renamed(key, _KEYS): tensor for key, tensor in tensors.items()}
    if "weights" in converted:
        converted["weights"] = converted["weights"].flatten()
    for key in list(converted):
        if key.endswith(".running_mean"):  # files from before PyTorch 0.4 don't count batches
            counter = key.replace("running_mean", "num_batches_tracked")
            converted.setdefault(counter, torch.tensor(0))
    return converted


MEMNET_LAYOUT = OfficialLayout(
    title=_TITLE,
    signature=(r"feature_extractor\.conv\.weight", r"dense_memory\.0\.gate_unit\.conv\.weight"),
    names=("memnet",),
    config=_config,
    convert=_convert,
)

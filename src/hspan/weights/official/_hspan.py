"""HSPAN and HSPAN-S as the authors' program stores them.

Its ``rgb_range`` is read from ``sub_mean.bias = −R·m``; with it folded into the outer
convolutions our network computes the same function from [0, 1] to [0, 1].
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hspan.errors import WeightsError
from hspan.weights.official._layout import (
    OfficialLayout,
    fold_range,
    numbers,
    renamed,
    require,
    rgb_range,
    upsampler_scale,
)

_TITLE = "HSPAN"

# Official name, ours. {m} counts modules and {b} what is inside one of them: the residual blocks,
# the attention (where there is one) and the last convolution have consecutive numbers.
HSPAN_KEYS = {
    "head.0": "head",
    "body.{m}.body.{b}.body.0": "body.{m}.leb.{b}.conv1",
    "body.{m}.body.{b}.body.2": "body.{m}.leb.{b}.conv2",
    "body.{m}.body.{b}.conv_match1.{i}": "body.{m}.attention.query.{i}",
    "body.{m}.body.{b}.conv_match2.{i}": "body.{m}.attention.key.{i}",
    "body.{m}.body.{b}.conv_assembly.{i}": "body.{m}.attention.value.{i}",
    "body.{m}.body.{b}": "body.{m}.conv",
    "body.{m}": "conv",
    "tail.0.{i}": "upsampler.{i}",
    "tail.1": "tail",
}
# What the program stores but doesn't compute with, or our network has as constants.
HSPAN_DROPPED = r"a|(sub|add)_mean\.(weight|bias)"


def _hspan_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Everything but ``residual_scale``, which leaves no trace in the weights."""
    require(_TITLE, tensors, "head.0.weight", "tail.0.0.weight")
    channels = tensors["head.0.weight"].shape[0]
    modules = numbers(tensors, r"body\.(\d+)\.body\..*")
    attending = numbers(tensors, r"body\.(\d+)\.body\.\d+\.conv_match1\.0\.weight")
    blocks = numbers(tensors, r"body\.\d+\.body\.(\d+)\.body\.0\.weight")
    query = next(t for k, t in tensors.items() if k.endswith("conv_match1.0.weight"))
    return {
        "scale": upsampler_scale(_TITLE, tensors, "tail.0"),
        "channels": channels,
        "num_modules": len(modules),
        "num_blocks": len(blocks),
        "attention_modules": None if attending == modules else tuple(sorted(attending)),
        "reduction": channels // query.shape[0],
        "topk": None,
    }


def _hspan_convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename, fold ``rgb_range`` into the outer convolutions, drop what computes nothing."""
    kept = {k: t.float() for k, t in tensors.items() if not re.fullmatch(HSPAN_DROPPED, k)}
    fold_range(_TITLE, kept, rgb_range(_TITLE, tensors), "head.0", "tail.1")
    converted = {renamed(key, HSPAN_KEYS): tensor for key, tensor in kept.items()}
    if len(converted) < len(kept):
        raise WeightsError("an official HSPAN checkpoint with a module of two last convolutions")
    return converted


HSPAN_LAYOUT = OfficialLayout(
    title=_TITLE,
    signature=(r"body\.\d+\.body\.\d+\.conv_assembly\.0\.weight",),
    names=("hspan", "hspan-s"),
    config=_hspan_config,
    convert=_hspan_convert,
)

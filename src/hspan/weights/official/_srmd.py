"""SRMD and SRMDNF as the authors' PyTorch program (KAIR) stores them.

A list of layers that begins with ``model.0.weight``, of which the first word is lost when it gets
here. The PCA basis is no part of it: ``hspan.models.degradation_code``.
"""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hspan.errors import WeightsError
from hspan.models.srmd import CODE_LENGTH, SRMDConfig
from hspan.weights.official._layout import OfficialLayout, renamed, require

_TITLE = "SRMD"
_LAST = 2 * SRMDConfig().num_layers - 2  # number of the last convolution


def _config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    require(_TITLE, tensors, "0.weight", f"{_LAST}.weight")
    channels, inputs = tensors["0.weight"].shape[:2]
    told = inputs - 3 - CODE_LENGTH
    if told not in (0, 1):
        raise WeightsError(f"an official SRMD checkpoint with {inputs} channels in, not 18 or 19")
    outputs = tensors[f"{_LAST}.weight"].shape[0]
    return {"scale": math.isqrt(outputs // 3), "channels": channels, "noise_aware": told == 1}


def _convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {renamed(key, {"{i}": "body.{i}"}): tensor for key, tensor in tensors.items()}


SRMD_LAYOUT = OfficialLayout(
    title=_TITLE,
    signature=(r"0\.weight", rf"{_LAST}\.weight"),
    absent=(rf"{_LAST + 2}\.weight",),
    names=("srmd", "srmdnf"),
    config=_config,
    convert=_convert,
)

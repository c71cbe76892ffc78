"""IRCNN's denoisers as the authors' PyTorch programs (KAIR, DPIR) store them.

One file holds 25 of them by number; a denoiser of its own is read too. A list that begins with
``model.0.weight`` has lost its first word when it gets here.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hspan.models.ircnn import DILATIONS
from hspan.weights.official._layout import OfficialLayout, numbers, renamed, require

_TITLE = "IRCNN"
_LAST = 2 * len(DILATIONS) - 2  # number of the last convolution
_KEYS = {"{n}.model.{i}": "denoisers.{n}.{i}", "{i}": "denoisers.0.{i}"}


def _config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    converted = _convert(tensors)
    require(_TITLE, converted, "denoisers.0.0.weight")
    channels, colours = converted["denoisers.0.0.weight"].shape[:2]
    return {
        "colour": colours == 3,
        "channels": channels,
        "num_denoisers": len(numbers(converted, r"denoisers\.(\d+)\..*")),
    }


def _convert(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {renamed(key, _KEYS): tensor for key, tensor in tensors.items()}


IRCNN_LAYOUT = OfficialLayout(
    title=_TITLE,
    signature=(rf"(\d+\.model\.)?{_LAST}\.weight", r"(\d+\.model\.)?0\.weight"),
    absent=(rf"(\d+\.model\.)?{_LAST + 2}\.weight",),
    names=("ircnn",),
    config=_config,
    convert=_convert,
)

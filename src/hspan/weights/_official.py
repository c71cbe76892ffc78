"""Checkpoints of the authors' own programs: recognised by their keys, renamed to ours.

HSPAN's released program works in [0, R], R its ``rgb_range`` (1 or 255), and subtracts R times
the mean before the first convolution: it computes ``R·m + t(h(R·(x − m)))`` for x in [0, 1],
where h and t are the first and last convolutions. R is read from ``sub_mean.bias = −R·m``. With
h's weight multiplied by R, and t's weight and bias divided by R, our network computes the same
image divided by R: the same function, from [0, 1] to [0, 1].
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hspan.errors import WeightsError
from hspan.modules.color import DIV2K_MEAN


@dataclass(frozen=True)
class OfficialLayout:
    """How one published program stores its network.

    Attributes:
        signature: a pattern that some key of this network matches, and no other network's.
        names: registry names that it may stand for, the usual one first.
        config: the network's configuration, as far as the tensors tell it.
        convert: tensors under our names, for our network's range of values.
    """

    signature: str
    names: tuple[str, ...]
    config: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


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


def recognise(tensors: Mapping[str, Tensor]) -> OfficialLayout | None:
    """The program that stored these tensors; None when their names are of no known one."""
    for layout in OFFICIAL:
        if any(re.fullmatch(layout.signature, key) for key in tensors):
            return layout
    return None


def _hspan_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Everything but ``residual_scale``, which leaves no trace in the weights."""
    _require(tensors, "head.0.weight", "tail.0.0.weight")
    channels = tensors["head.0.weight"].shape[0]
    modules = _numbers(tensors, r"body\.(\d+)\.body\..*")
    attending = _numbers(tensors, r"body\.(\d+)\.body\.\d+\.conv_match1\.0\.weight")
    blocks = _numbers(tensors, r"body\.\d+\.body\.(\d+)\.body\.0\.weight")
    query = next(t for k, t in tensors.items() if k.endswith("conv_match1.0.weight"))
    steps = _numbers(tensors, r"tail\.0\.(\d+)\.weight")
    step = math.isqrt(tensors["tail.0.0.weight"].shape[0] // channels)
    return {
        "scale": step ** len(steps),
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
    value_range = _rgb_range(tensors)
    if value_range != 1.0:
        _require(kept, "head.0.weight", "tail.1.weight", "tail.1.bias")
        kept["head.0.weight"] = kept["head.0.weight"] * value_range
        kept["tail.1.weight"] = kept["tail.1.weight"] / value_range
        kept["tail.1.bias"] = kept["tail.1.bias"] / value_range
    renamed = {_renamed(key, HSPAN_KEYS): tensor for key, tensor in kept.items()}
    if len(renamed) < len(kept):
        raise WeightsError("an official HSPAN checkpoint with a module of two last convolutions")
    return renamed


def _rgb_range(tensors: Mapping[str, Tensor]) -> float:
    _require(tensors, "sub_mean.weight", "sub_mean.bias", "add_mean.weight", "add_mean.bias")
    shift = tensors["sub_mean.bias"].double()
    mean = torch.tensor(DIV2K_MEAN, dtype=torch.float64)
    value_range = float((-shift / mean).mean())
    identity = torch.eye(3, dtype=torch.float64).view(3, 3, 1, 1)
    expected = {
        "sub_mean.bias": -value_range * mean,
        "add_mean.bias": value_range * mean,
        "sub_mean.weight": identity,
        "add_mean.weight": identity,
    }
    for key, value in expected.items():
        if not torch.allclose(tensors[key].double(), value, rtol=1e-4, atol=1e-6):
            raise WeightsError(
                f"{key} isn't the DIV2K mean {DIV2K_MEAN} times one range with unit deviation, "
                "which is all that HSPAN's network can represent"
            )
    # What float32 rounding leaves of 1 or 255 would otherwise scale every weight.
    return round(value_range, 2)


def _renamed(key: str, table: Mapping[str, str]) -> str:
    """Our name of a weight or bias; a key that no entry fits keeps its name, to be reported."""
    stem, _, parameter = key.rpartition(".")
    for official, ours in table.items():
        pattern = re.sub(r"\\\{(\w)\\\}", r"(?P<\1>\\d+)", re.escape(official))
        if match := re.fullmatch(pattern, stem):
            return f"{ours.format(**match.groupdict())}.{parameter}"
    return key


def _numbers(keys: Iterable[str], pattern: str) -> set[int]:
    return {int(match[1]) for key in keys if (match := re.fullmatch(pattern, key))}


def _require(tensors: Mapping[str, Tensor], *keys: str) -> None:
    if missing := [key for key in keys if key not in tensors]:
        raise WeightsError(f"an official HSPAN checkpoint without {', '.join(missing)}")


OFFICIAL = (
    OfficialLayout(
        signature=r"body\.\d+\.body\.\d+\.conv_assembly\.0\.weight",
        names=("hspan", "hspan-s"),
        config=_hspan_config,
        convert=_hspan_convert,
    ),
)

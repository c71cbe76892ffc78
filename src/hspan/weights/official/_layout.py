"""What every description of a published program's checkpoint is made of."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hspan.errors import WeightsError
from hspan.modules.color import DIV2K_MEAN


@dataclass(frozen=True)
class OfficialLayout:
    """How one published program stores its network.

    Attributes:
        title: what the program's network is called, for messages.
        signature: patterns, each of which some key of this network matches.
        absent: patterns that no key of this network matches.
        names: registry names that it may stand for, the usual one first.
        config: the network's configuration, as far as the tensors tell it.
        convert: tensors under our names, for our network's range of values.
    """

    title: str
    signature: tuple[str, ...]
    names: tuple[str, ...]
    config: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    absent: tuple[str, ...] = ()

    def matches(self, keys: Iterable[str]) -> bool:
        """Whether these are the keys of this network."""
        keys = list(keys)

        def found(pattern: str) -> bool:
            return any(re.fullmatch(pattern, key) for key in keys)

        return all(map(found, self.signature)) and not any(map(found, self.absent))


def renamed(key: str, table: Mapping[str, str]) -> str:
    """Our name of a weight or bias; a key that no entry fits keeps its name, to be reported.

    Args:
        key: the program's name, as ``head.0.weight``.
        table: the program's names without their last part, and ours; ``{m}`` and other single
            letters stand for numbers, which are carried over.
    """
    stem, _, parameter = key.rpartition(".")
    if stem in table:
        return f"{table[stem]}.{parameter}"
    for official, ours in table.items():
        if match := _pattern(official).fullmatch(stem):
            return f"{ours.format(**match.groupdict())}.{parameter}"
    return key


@cache
def _pattern(official: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w)\\\}", r"(?P<\1>\\d+)", re.escape(official)))


def rename_all(tensors: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, Tensor]:
    """All tensors in float32 under our names; those that no entry fits keep theirs."""
    return {renamed(key, table): tensor.float() for key, tensor in tensors.items()}


def numbers(keys: Iterable[str], pattern: str) -> set[int]:
    """What the first group of a pattern stands for in the keys that it matches."""
    return {int(match[1]) for key in keys if (match := re.fullmatch(pattern, key))}


def require(title: str, tensors: Mapping[str, Tensor], *keys: str) -> None:
    """Check that keys are there.

    Raises:
        WeightsError: names those that aren't.
    """
    if missing := [key for key in keys if key not in tensors]:
        raise WeightsError(f"an official {title} checkpoint without {', '.join(missing)}")


def upsampler_scale(title: str, tensors: Mapping[str, Tensor], stem: str) -> int:
    """The scale of a sub-pixel upsampler: a step of r has r² times as many channels out as in.

    Args:
        title: the program's network, for messages.
        tensors: under the program's names.
        stem: of the upsampler's keys, as ``tail.0``; one number for each layer follows.
    """
    require(title, tensors, f"{stem}.0.weight")
    scale = 1
    for layer in numbers(tensors, rf"{re.escape(stem)}\.(\d+)\.weight"):
        outputs, inputs = tensors[f"{stem}.{layer}.weight"].shape[:2]
        scale *= math.isqrt(outputs // inputs)
    return scale


def rgb_range(
    title: str, tensors: Mapping[str, Tensor], mean: tuple[float, float, float] = DIV2K_MEAN
) -> float:
    """The range R of values that a program with constant mean shifts works in, 1 or 255.

    Raises:
        WeightsError: the shifts aren't the mean times one range with unit deviation.
    """
    require(title, tensors, "sub_mean.weight", "sub_mean.bias", "add_mean.weight", "add_mean.bias")
    shift = tensors["sub_mean.bias"].double()
    middle = torch.tensor(mean, dtype=torch.float64)
    value_range = float((-shift / middle).mean())
    identity = torch.eye(3, dtype=torch.float64).view(3, 3, 1, 1)
    expected = {
        "sub_mean.bias": -value_range * middle,
        "add_mean.bias": value_range * middle,
        "sub_mean.weight": identity,
        "add_mean.weight": identity,
    }
    for key, value in expected.items():
        if not torch.allclose(tensors[key].double(), value, rtol=1e-4, atol=1e-6):
            raise WeightsError(
                f"{key} isn't the mean {mean} times one range with unit deviation, "
                f"which is all that {title}'s network can represent"
            )
    # What float32 rounding leaves of 1 or 255 would otherwise scale every weight.
    return round(value_range, 2)


def fold_range(
    title: str, tensors: dict[str, Tensor], value_range: float, head: str, tail: str
) -> None:
    """Make a network of [0, R] one of [0, 1], in place.

    It computes ``R·m + t(h(R·(x − m)))`` for x in [0, 1], where h and t are the first and last
    convolutions. With h's weight multiplied by R, and t's weight and bias divided by R, it
    computes the same image divided by R.

    Args:
        title: the program's network, for messages.
        tensors: under any names.
        value_range: R.
        head: stem of the first convolution's keys.
        tail: stem of the last convolution's keys.
    """
    if value_range == 1.0:
        return
    require(title, tensors, f"{head}.weight", f"{tail}.weight")
    tensors[f"{head}.weight"] = tensors[f"{head}.weight"] * value_range
    for key in (f"{tail}.weight", f"{tail}.bias"):
        if key in tensors:
            tensors[key] = tensors[key] / value_range


def fold_stored_range(title: str, tensors: dict[str, Tensor]) -> None:
    """Make a network of [0, R] with stored mean shifts one of [0, 1], in place, under our names.

    The shifts stay what training made of them; only their biases shrink. R is 255 where they are
    of that size, and 1 otherwise.
    """
    shifts = ("subtract_mean.bias", "add_mean.bias")
    require(title, tensors, *shifts)
    # Fresh shifts are 0.43 on average at R = 1 and 109.7 at R = 255; 6.9 is halfway, in ratio.
    if max(float(tensors[key].abs().mean()) for key in shifts) < 6.9:
        return
    for key in shifts:
        tensors[key] = tensors[key] / 255
    fold_range(title, tensors, 255, "head", "tail")

"""How fast this machine is now beside the nominal one that plans are made for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hspan.inference._meter import Cost
from hspan.inference._speed import Speed

_SIDES = (32, 48, 64, 96, 128, 192, 256)
_AFFORDABLE = 0.3  # nominal seconds of one run
_COUNTED = 8.0  # beyond so many times what was counted, the operations aren't what takes the time


@dataclass(frozen=True)
class Pace:
    """What turns nominal seconds into those of this machine."""

    factor: float
    per_pixel: float  # seconds of an LR pixel on top: reading and writing, which isn't counted

    def seconds(self, nominal: float, pixels: float) -> float:
        """Of so many nominal seconds over so many LR pixels."""
        return self.factor * nominal + self.per_pixel * pixels


def measure_pace(run: Callable[[Tensor], Tensor], cost: Cost, speed: Speed) -> Pace:
    """Time a network on a small image.

    Args:
        run: [3, h, w] float32 on the processor → [3, s·h, s·w].
        cost: of the network.
        speed: what plans count on.
    """
    affordable = [side for side in _SIDES if cost.seconds(side * side, speed) < _AFFORDABLE]
    side = max(affordable, default=_SIDES[0])
    window = _photograph(side)
    seconds: list[float] = []
    for _ in range(3):  # the first one loads code
        begin = time.perf_counter()
        run(window)
        seconds.append(time.perf_counter() - begin)
    taken, nominal = min(seconds[1:]), cost.seconds(side * side, speed)
    if taken <= _COUNTED * nominal:
        return Pace(taken / nominal, 0.0)
    return Pace(1.0, (taken - nominal) / side**2)


def _photograph(side: int) -> Tensor:
    """Smooth with some noise, [3, side, side]: attention takes as long on it as on photographs.

    On a constant image every key is as similar as any other, the hardest case of all.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((1, 3, side // 8, side // 8), generator=generator)
    smooth = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)[0]
    noise = torch.randn((3, side, side), generator=generator)
    return (smooth + 0.05 * noise).clamp_(0, 1)

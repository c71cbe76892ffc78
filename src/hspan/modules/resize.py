"""Resizing inside a network: MATLAB's bicubic, and the blur and decimation of BD.

The numbers are those of ``hspan.imaging`` (the same kernel, half-pixel centres, mirrored borders,
antialiasing when shrinking), here as a few shifted sums per dimension instead of matrices made for
one size: nothing depends on the size but the shapes, so that networks that enlarge their input can
be compiled and exported. Sums are in the input's own precision, under autocast too.

With up outputs for every down inputs, output m = k·up + r lies at k·down + (r + 1/2)·down/up − 1/2:
one small filter for each phase r, moved by ``down`` inputs from one k to the next.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hspan.errors import UsageError
from hspan.imaging._degrade import blur_taps
from hspan.imaging._resize import cubic


@dataclass(frozen=True)
class _Phase:
    """Every up-th output: weights of the inputs from ``first`` on."""

    first: int
    weights: tuple[float, ...]


class _Resize(nn.Module):
    """Filter rows, then columns, with one filter for each phase; no parameters."""

    def __init__(self, phases: tuple[_Phase, ...], down: int, mirrored: bool) -> None:
        super().__init__()
        self._phases = phases
        self._down = down
        self._mirrored = mirrored
        self._before = max(0, -min(p.first for p in phases))
        self._after = max(p.first + len(p.weights) for p in phases)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, ⌈H·up/down⌉, ⌈W·up/down⌉]."""
        return self._along(self._along(x, 2), 3)

    def _along(self, x: Tensor, dim: int) -> Tensor:
        size, up, down = x.shape[dim], len(self._phases), self._down
        total = (size * up + down - 1) // down
        steps = (total + up - 1) // up
        start, stop = -self._before, (steps - 1) * down + self._after
        index = torch.arange(start, stop, device=x.device)
        if self._mirrored:  # ... 1 0 | 0 1 ... n-1 | n-1 ... has period 2n
            index = index % index.new_full((), 2 * size)  # a tensor: exporters know no other %
            index = torch.minimum(index, 2 * size - 1 - index)
        else:
            index = index.clamp(0, size - 1)
        padded = x.index_select(dim, index)
        outputs = [self._phase(padded, phase, steps, dim) for phase in self._phases]
        out = torch.stack(outputs, dim + 1).flatten(dim, dim + 1) if up > 1 else outputs[0]
        return out.narrow(dim, 0, total)

    def _phase(self, padded: Tensor, phase: _Phase, steps: int, dim: int) -> Tensor:
        """Every up-th output, ``steps`` of them."""
        span = (steps - 1) * self._down + 1
        total: Tensor | None = None
        for offset, weight in enumerate(phase.weights):
            if weight:
                start = self._before + phase.first + offset
                taken = slice(start, start + span, self._down)
                part = padded[:, :, taken] if dim == 2 else padded[..., taken]
                total = weight * part if total is None else total + weight * part
        assert total is not None  # weights sum to one
        return total


class BicubicResize(_Resize):
    """``hspan.imaging.imresize(x, up / down)``.

    Args:
        up: outputs...
        down: ...for so many inputs.
    """

    def __init__(self, up: int, down: int = 1) -> None:
        if up < 1 or down < 1:
            raise UsageError(f"up and down must be at least 1, got {up} and {down}")
        divisor = math.gcd(up, down)
        up, down = up // divisor, down // divisor
        super().__init__(tuple(_bicubic(r, up, down) for r in range(up)), down, mirrored=True)
        self._ratio = up, down

    def extra_repr(self) -> str:
        """What the printed module shows."""
        return f"up={self._ratio[0]}, down={self._ratio[1]}"


class BlurDecimate(_Resize):
    """``hspan.imaging.degrade(x, 3, "BD")`` for sides that are multiples of 3."""

    def __init__(self) -> None:
        weights, step = blur_taps()
        first = step // 2 - len(weights) // 2
        super().__init__((_Phase(first, tuple(map(float, weights))),), step, mirrored=False)


def _bicubic(phase: int, up: int, down: int) -> _Phase:
    squeeze = min(up / down, 1.0)  # antialiasing, as in imresize
    reach = 2 / squeeze
    centre = (phase + 0.5) * down / up - 0.5
    taps = np.arange(math.ceil(centre - reach), math.floor(centre + reach) + 1)
    weights = cubic(squeeze * (centre - taps))
    return _Phase(int(taps[0]), tuple(map(float, weights / weights.sum())))

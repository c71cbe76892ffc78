"""Small networks whose results are known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


class Nearest(nn.Module):
    """Repeats every pixel; counts its calls and remembers the sizes that it saw."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.scale = scale
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return x.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


class Local(nn.Module):
    """A convolution that looks exactly ``radius`` pixels far, at every phase differently."""

    def __init__(self, scale: int = 2, radius: int = 4) -> None:
        super().__init__()
        self.scale = scale
        side = 2 * radius + 1
        self.conv = nn.Conv2d(3, 3 * scale**2, side, padding=radius)
        generator = torch.Generator().manual_seed(radius)
        with torch.no_grad():
            self.conv.weight.copy_(torch.rand(self.conv.weight.shape, generator=generator))
            self.conv.weight /= self.conv.weight.sum((1, 2, 3), keepdim=True)
            self.conv.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.conv(x), self.scale)


@pytest.fixture
def nearest() -> Callable[..., Nearest]:
    return Nearest


@pytest.fixture
def local() -> Callable[..., Local]:
    return Local

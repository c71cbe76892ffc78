"""Chains of convolutions with nothing but ReLU between them."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from hspan.errors import UsageError

Padding = Literal["zeros", "replicate"]


def conv_chain(
    channels: Sequence[int],
    *,
    kernel_sizes: int | Sequence[int] = 3,
    dilations: int | Sequence[int] = 1,
    bias: bool = True,
    padding_mode: Padding = "zeros",
) -> nn.Sequential:
    """Convolutions that keep the size, at even indices, with a ReLU between any two.

    Weights start as ``start_lively`` has them, the last ones at a tenth: a network with a skip
    connection begins near it.

    Args:
        channels: of the input, and of every convolution's output.
        kernel_sizes: odd; one for all convolutions, or one for each.
        dilations: likewise.
        bias: whether convolutions have one.
        padding_mode: what lies outside the image, "zeros" or "replicate".

    Raises:
        UsageError: an even kernel size.
    """
    count = len(channels) - 1
    sizes = [kernel_sizes] * count if isinstance(kernel_sizes, int) else list(kernel_sizes)
    apart = [dilations] * count if isinstance(dilations, int) else list(dilations)
    if any(size % 2 == 0 for size in sizes):
        raise UsageError(f"kernel sizes must be odd to keep the size of an image, got {sizes}")
    layers: list[nn.Module] = []
    for i in range(count):
        if i:
            layers.append(nn.ReLU(inplace=True))
        conv = nn.Conv2d(
            channels[i],
            channels[i + 1],
            sizes[i],
            padding=apart[i] * (sizes[i] // 2),
            dilation=apart[i],
            bias=bias,
            padding_mode=padding_mode,
        )
        start_lively(conv, gain=1.0 if i < count - 1 else 0.1)
        layers.append(conv)
    return nn.Sequential(*layers)


@torch.no_grad()
def start_lively(
    conv: nn.Conv2d | nn.ConvTranspose2d, slope: float = 0.0, gain: float = 1.0
) -> None:
    """Draw weights that keep the size of signals through any number of layers (He et al., 2015).

    PyTorch's own shrink them, by √6 at every ReLU, which leaves nothing after twenty.

    Args:
        conv: changed in place; its bias becomes zero.
        slope: of the leaky ReLU before it.
        gain: factor on top.
    """
    inputs = conv.in_channels * math.prod(conv.kernel_size)
    if isinstance(conv, nn.ConvTranspose2d):
        inputs /= math.prod(conv.stride)  # an output reads only so many of the taps
    deviation = gain * math.sqrt(2 / ((1 + slope**2) * inputs))
    nn.init.normal_(conv.weight, std=deviation)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


@torch.no_grad()
def carry(conv: nn.Conv2d, count: int = 1, spread: float = 1.0) -> None:
    """Let the first channels pass a convolution unchanged, as an initial value.

    A network without a skip connection that starts so, computes its input before any training
    instead of noise.

    Args:
        conv: keeps the size of an image; changed in place.
        count: channels that pass.
        spread: of the other weights into these channels, as a share of what they were.
    """
    conv.weight[:count] *= spread
    middle = conv.weight.shape[-1] // 2
    for i in range(count):
        conv.weight[i, i, middle, middle] = 1.0
    if conv.bias is not None:
        conv.bias[:count] = 0.0

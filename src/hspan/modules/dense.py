"""Densely connected blocks (RDN, 2018, Section 3.2).

DenseLayer          contiguous memory: sees the block's input and all layers before it
ResidualDenseBlock  dense layers, local feature fusion, local residual learning
"""

import torch
from torch import Tensor, nn


class DenseLayer(nn.Module):
    """Append the ReLU of a 3×3 convolution of all channels to them.

    Args:
        channels: C of the features that come in.
        growth: channels that are added.
    """

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, growth, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C + growth, H, W]."""
        return torch.cat([x, self.conv(x).relu()], dim=1)


class ResidualDenseBlock(nn.Module):
    """Dense layers in a row, a 1×1 convolution that fuses them, and an identity skip.

    Args:
        channels: C of the features.
        growth: channels that each layer adds.
        num_layers: dense layers in a row.
    """

    def __init__(self, channels: int, growth: int, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(DenseLayer(channels + i * growth, growth) for i in range(num_layers))
        )
        self.fusion = nn.Conv2d(channels + num_layers * growth, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        return x + self.fusion(self.layers(x))

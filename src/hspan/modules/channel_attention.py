"""Channel attention and the residual blocks that are built with it (RCAN, 2018).

Section 3.2  ResidualGroup                  blocks and a convolution beside a short skip
Section 3.3  ChannelAttention               mean of each channel, two layers, a gate
Section 3.4  ResidualChannelAttentionBlock  two convolutions and the attention beside a skip
"""

from collections.abc import Iterable

from torch import Tensor, nn

from hspan.errors import UsageError


class ChannelAttention(nn.Module):
    """Scale every channel by a weight in (0, 1) that the means of all channels determine.

    Args:
        channels: C of the features.
        reduction: C / reduction channels between the two layers.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        if not 1 <= reduction <= channels:
            raise UsageError(f"reduction must lie in [1, {channels}], got {reduction}")
        self.reduce = nn.Conv2d(channels, channels // reduction, 1)
        self.expand = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        means = x.mean((2, 3), keepdim=True)
        return x * self.expand(self.reduce(means).relu()).sigmoid()


class ResidualChannelAttentionBlock(nn.Module):
    """Two 3×3 convolutions with a ReLU between them, channel attention, and an identity skip.

    Args:
        channels: C of the features.
        reduction: of the channel attention.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.activation = nn.ReLU(inplace=True)
        self.attention = ChannelAttention(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        return x + self.attention(self.conv2(self.activation(self.conv1(x))))


class ResidualGroup(nn.Module):
    """Blocks in a row and a 3×3 convolution, with an identity skip around them.

    Args:
        channels: C of the features.
        blocks: modules that map [B, C, H, W] to the same shape.
    """

    def __init__(self, channels: int, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        return x + self.conv(self.blocks(x))

"""Residual blocks of HSPAN: locality exploration block and attention module.

Section III-A  LEB    four residual blocks in a row (in HSPAN)
Eqs. (2), (3)  HSPAM  LEB, non-local block, 3×3 convolution, around them a scaled skip connection
"""

from torch import Tensor, nn

from hspan.modules.fused import conv_add, conv_relu_conv_add


class ResidualBlock(nn.Module):
    """Two convolutions, usually 3×3, with an activation between them, and an identity skip.

    Args:
        channels: C of the features.
        residual_scale: weight of the convolutions beside the input.
        activation: stands between the convolutions; None is a ReLU.
        side: of the convolutions, odd.
    """

    def __init__(
        self,
        channels: int,
        residual_scale: float = 1.0,
        activation: nn.Module | None = None,
        side: int = 3,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, side, padding=side // 2)
        self.conv2 = nn.Conv2d(channels, channels, side, padding=side // 2)
        self.activation = nn.ReLU(inplace=True) if activation is None else activation
        self.residual_scale = residual_scale

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        activation = self.activation
        if type(activation) is nn.ReLU and not activation._forward_hooks:
            return conv_relu_conv_add(self.conv1, self.conv2, x, self.residual_scale)
        return conv_add(self.conv2, activation(self.conv1(x)), x, self.residual_scale)


class LEB(nn.Sequential):
    """Locality exploration block: ``num_blocks`` residual blocks.

    Args:
        channels: C of the features.
        num_blocks: residual blocks in a row.
    """

    def __init__(self, channels: int, num_blocks: int = 4) -> None:
        super().__init__(*(ResidualBlock(channels) for _ in range(num_blocks)))


class HSPAM(nn.Module):
    """Attention-based module: ``x + residual_scale · conv(attention(LEB(x)))``.

    Args:
        channels: C of the features.
        num_blocks: residual blocks of the LEB; 0 leaves the LEB out (Table I).
        attention: the non-local block, usually HSPA; None leaves it out.
        residual_scale: weight of the branch beside the input.
    """

    def __init__(
        self,
        channels: int,
        num_blocks: int = 4,
        attention: nn.Module | None = None,
        residual_scale: float = 0.1,
    ) -> None:
        super().__init__()
        self.leb = LEB(channels, num_blocks)
        self.attention = nn.Identity() if attention is None else attention
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.residual_scale = residual_scale

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        return x + self.residual_scale * self.conv(self.attention(self.leb(x)))

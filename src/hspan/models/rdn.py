"""RDN, residual dense network (Zhang et al., CVPR 2018).

Section 3.1  head, shallow    shallow features
Section 3.2  blocks           residual dense blocks
Section 3.3  fusion           global feature fusion of all blocks' outputs, and global residual

The program (the authors' link to PyTorch) subtracts no mean and works in [0, 255], of which its
weights show no trace: the range is a setting here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hspan.models._checks import check_positive, check_scale
from hspan.modules import ResidualDenseBlock, Upsampler


@dataclass(frozen=True, kw_only=True)
class RDNConfig:
    """Section 4.1 and the supplement: D = 16, C = 8, G = 64 ("B" in the program).

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        channels: G0, of the features between blocks.
        growth: G, channels that each dense layer adds, and of the enlarged features.
        num_blocks: D, residual dense blocks.
        num_layers: C, dense layers in each block.
        rgb_range: the weights' range of values: 255 in the program, 1 in some ports.
    """

    scale: int = 4
    channels: int = 64
    growth: int = 64
    num_blocks: int = 16
    num_layers: int = 8
    rgb_range: float = 255

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        check_scale(self.scale)
        check_positive(
            channels=self.channels,
            growth=self.growth,
            num_blocks=self.num_blocks,
            num_layers=self.num_layers,
            rgb_range=self.rgb_range,
        )


class RDN(nn.Module):
    """Residual dense blocks with local and global feature fusion.

    Args:
        config: hyper-parameters; the defaults are the paper's at ×4.
    """

    def __init__(self, config: RDNConfig) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        self.head = nn.Conv2d(3, c, 3, padding=1)
        self.shallow = nn.Conv2d(c, c, 3, padding=1)
        self.blocks = nn.ModuleList(
            ResidualDenseBlock(c, config.growth, config.num_layers)
            for _ in range(config.num_blocks)
        )
        self.fusion = nn.Conv2d(config.num_blocks * c, c, 1)
        self.conv = nn.Conv2d(c, c, 3, padding=1)
        self.upsampler = Upsampler(config.scale, c, config.growth)
        self.tail = nn.Conv2d(config.growth, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        first = self.head(x * self.config.rgb_range)
        features = self.shallow(first)
        outputs: list[Tensor] = []
        for block in self.blocks:
            features = block(features)
            outputs.append(features)
        deep = self.conv(self.fusion(torch.cat(outputs, dim=1))) + first
        return self.tail(self.upsampler(deep)).to(x.dtype) / self.config.rgb_range

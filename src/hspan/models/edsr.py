"""EDSR, enhanced deep residual networks (Lim et al., CVPR workshops 2017).

Section 3.1  body        residual blocks without batch normalisation
Section 3.3  upsampler   sub-pixel convolution after a long skip connection

Departure: images are in [0, 1]; the authors' program works in [0, 255].
"""

from dataclasses import dataclass

from hspan.models._checks import check_positive, check_scale
from hspan.modules import ResidualBackbone, ResidualBlock


@dataclass(frozen=True, kw_only=True)
class EDSRConfig:
    """Table 1: EDSR, the large single-scale network.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        channels: F of the features; 64 in EDSR-baseline.
        num_blocks: B, residual blocks in a row; 16 in EDSR-baseline.
        residual_scale: weight of each block's convolutions beside its input (Section 3.3); 1 in
            EDSR-baseline.
    """

    scale: int = 4
    channels: int = 256
    num_blocks: int = 32
    residual_scale: float = 0.1

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        check_scale(self.scale)
        check_positive(channels=self.channels, num_blocks=self.num_blocks)


class EDSR(ResidualBackbone):
    """Residual blocks between a convolution and sub-pixel upsampling.

    Args:
        config: hyper-parameters; the defaults are EDSR's at ×4.
    """

    def __init__(self, config: EDSRConfig) -> None:
        super().__init__(
            config.scale,
            config.channels,
            (
                ResidualBlock(config.channels, config.residual_scale)
                for _ in range(config.num_blocks)
            ),
        )
        self.config = config

"""RCAN, residual channel attention network (Zhang et al., ECCV 2018).

Section 3.2  body            residual groups in a long skip connection (residual in residual)
Section 3.4  blocks in them  residual channel attention blocks

The authors' mean shifts are trained and stored like every other weight; so are these.
Departure: images are in [0, 1]; the authors' program works in [0, 255].
"""

from dataclasses import dataclass

from hspan.models._checks import check_positive, check_scale
from hspan.modules import ResidualBackbone, ResidualChannelAttentionBlock, ResidualGroup


@dataclass(frozen=True, kw_only=True)
class RCANConfig:
    """Section 4.1, implementation details.

    Attributes:
        scale: upscaling factor: 2, 3, 4 or 8.
        channels: C of the features.
        num_groups: residual groups in a row.
        num_blocks: residual channel attention blocks in each group.
        reduction: of the channel attention.
    """

    scale: int = 4
    channels: int = 64
    num_groups: int = 10
    num_blocks: int = 20
    reduction: int = 16

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        check_scale(self.scale, (2, 3, 4, 8))
        check_positive(
            channels=self.channels, num_groups=self.num_groups, num_blocks=self.num_blocks
        )


class RCAN(ResidualBackbone):
    """Residual groups of channel attention blocks.

    Args:
        config: hyper-parameters; the defaults are the paper's at ×4.
    """

    def __init__(self, config: RCANConfig) -> None:
        super().__init__(
            config.scale,
            config.channels,
            (attention_group(config) for _ in range(config.num_groups)),
            stored_mean="trainable",
        )
        self.config = config


def attention_group(config: RCANConfig) -> ResidualGroup:
    """One residual group."""
    c = config
    blocks = (ResidualChannelAttentionBlock(c.channels, c.reduction) for _ in range(c.num_blocks))
    return ResidualGroup(c.channels, blocks)

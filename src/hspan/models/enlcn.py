"""ENLCN, efficient non-local contrastive attention (Xia, Hang, Tian, Yang, Liao, Zhou, AAAI 2022).

EDSR with random-feature attention before the first and after every eighth residual block.

Departures: images are in [0, 1]. In training, the authors' program also returns a contrastive loss
on the N×N similarities; this network returns the image alone.
"""

from dataclasses import dataclass

import torch

from hspan.errors import UsageError
from hspan.modules import ResidualBackbone
from hspan.modules.backbone import interleaved_blocks
from hspan.modules.kernel_attention import KernelAttention


@dataclass(frozen=True, kw_only=True)
class ENLCNConfig:
    """The published network; (code) marks values found only in the authors' program.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        channels: C of the features.
        num_blocks: residual blocks.
        interval: residual blocks between two attentions; five attentions in all.
        reduction: C / reduction channels for query and key (code).
        projections: random directions of each attention.
        residual_scale: weight of each block and of each attention beside its input.
        seed: of the directions that a new network draws (ours); a checkpoint holds its own.
    """

    scale: int = 4
    channels: int = 256
    num_blocks: int = 32
    interval: int = 8
    reduction: int = 4
    projections: int = 128
    residual_scale: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        if self.scale not in (2, 3, 4):
            raise UsageError(f"scale must be 2, 3 or 4, got {self.scale}")
        if min(self.channels, self.num_blocks, self.interval) < 1:
            raise UsageError("channels, num_blocks and interval must be at least 1")


class ENLCN(ResidualBackbone):
    """Residual blocks and softmax attention estimated with random features.

    Args:
        config: hyper-parameters; the defaults are the paper's at ×4.
    """

    def __init__(self, config: ENLCNConfig) -> None:
        generator = torch.Generator().manual_seed(config.seed)

        def attention() -> KernelAttention:
            return KernelAttention(
                config.channels,
                config.reduction,
                config.projections,
                config.residual_scale,
                generator,
            )

        super().__init__(
            config.scale,
            config.channels,
            interleaved_blocks(
                config.channels,
                config.num_blocks,
                config.residual_scale,
                config.interval,
                attention,
            ),
        )
        self.config = config

"""HSPAN-light: high-similarity-pass attention for a laptop's processor.

Ours, not the paper's: residual blocks of 3×3 convolutions, which processors run fastest per
parameter; HSPA over patches of features in the middle; and one convolution with a pixel shuffle
that adds detail to the enlarged input, so that nothing is computed at HR size but the shuffle.
docs/hspan-light.md holds the measured alternatives.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.modules import HSPA, MeanShift, ResidualBlock
from hspan.modules.fused import conv_add


@dataclass(frozen=True, kw_only=True)
class HSPANLightConfig:
    """Chosen by the measurements in docs/hspan-light.md.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        channels: C of the features.
        num_blocks: residual blocks.
        attention_after: counts of blocks after which an HSPA stands; None is one in the middle.
        reduction: C / reduction channels for query and key.
        topk: truncation of the attention; None is exact, 0 switches it off.
        patch: positions per side of an attention token.
        residual_scale: weight of the attention beside its input.
    """

    scale: int = 2
    channels: int = 60
    num_blocks: int = 14
    attention_after: tuple[int, ...] | None = None
    reduction: int = 2
    topk: int | None = None
    patch: int = 4
    residual_scale: float = 0.1

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        if self.scale not in (2, 3, 4):
            raise UsageError(f"scale must be 2, 3 or 4, got {self.scale}")
        if self.channels < 1 or self.num_blocks < 1:
            raise UsageError("channels and num_blocks must be at least 1")
        if self.attention_after is not None:
            # A configuration read from JSON holds lists.
            object.__setattr__(self, "attention_after", tuple(self.attention_after))
            if any(not 0 <= i <= self.num_blocks for i in self.attention_after):
                raise UsageError(
                    f"attention_after must lie in [0, {self.num_blocks}], "
                    f"got {self.attention_after}"
                )


class HSPANLight(nn.Module):
    """A small residual network with high-similarity-pass attention.

    Args:
        config: hyper-parameters.
    """

    def __init__(self, config: HSPANLightConfig) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        self.subtract_mean = MeanShift(-1)
        self.head = nn.Conv2d(3, c, 3, padding=1)
        after = config.attention_after
        if after is None:
            after = (config.num_blocks // 2,)
        body: list[nn.Module] = []
        for i in range(config.num_blocks + 1):
            if i in after:
                body.append(
                    HSPA(c, config.reduction, config.topk, config.residual_scale, config.patch)
                )
            if i < config.num_blocks:
                body.append(ResidualBlock(c))
        self.body = nn.Sequential(*body)
        self.conv = nn.Conv2d(c, c, 3, padding=1)
        self.tail = nn.Conv2d(c, 3 * config.scale**2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        shallow = self.head(self.subtract_mean(x))
        detail = self.tail(conv_add(self.conv, self.body(shallow), shallow))
        # The enlarged input is added in its own precision: bf16 detail is small, an image isn't.
        base = torch.repeat_interleave(x, self.config.scale**2, dim=1)
        return F.pixel_shuffle(base + detail.to(x.dtype), self.config.scale)

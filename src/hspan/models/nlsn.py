"""NLSN, non-local sparse network (Mei, Fan, Zhou, CVPR 2021).

EDSR with attention among hashed features before the first and after every eighth residual block.

Departures: images are in [0, 1]. Images of fewer pixels than a chunk are enlarged by repeating
their last rows and columns; the authors' program fails on them. The hash is drawn from a seed in
eval mode; the authors' program gives another result at every call.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hspan.errors import UsageError
from hspan.modules import ResidualBackbone
from hspan.modules.backbone import interleaved_blocks
from hspan.modules.bucket_attention import BucketAttention
from hspan.modules.padding import pad_image
from hspan.ops.random import seeded_normal


@dataclass(frozen=True, kw_only=True)
class NLSNConfig:
    """The published network; (code) marks values found only in the authors' program.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        channels: C of the features.
        num_blocks: residual blocks.
        interval: residual blocks between two attentions; five attentions in all.
        reduction: C / reduction channels for what is compared (code).
        chunk: features in a chunk.
        rounds: hashing rounds.
        residual_scale: weight of each block and of each attention beside its input (code).
        seed: of the hash in eval mode (ours).
    """

    scale: int = 4
    channels: int = 256
    num_blocks: int = 32
    interval: int = 8
    reduction: int = 4
    chunk: int = 144
    rounds: int = 4
    residual_scale: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        if self.scale not in (2, 3, 4):
            raise UsageError(f"scale must be 2, 3 or 4, got {self.scale}")
        if min(self.channels, self.num_blocks, self.interval) < 1:
            raise UsageError("channels, num_blocks and interval must be at least 1")


class NLSN(ResidualBackbone):
    """Residual blocks and attention within buckets.

    Args:
        config: hyper-parameters; the defaults are the paper's at ×4.
    """

    def __init__(self, config: NLSNConfig) -> None:
        def attention() -> BucketAttention:
            return BucketAttention(
                config.channels,
                config.reduction,
                config.chunk,
                config.rounds,
                config.residual_scale,
                config.seed,
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

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].
            generator: draws the hash; None is one seeded with ``config.seed`` in eval mode, and
                torch's global generator in training.

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        height, width = x.shape[-2:]
        if height * width < self.config.chunk:
            x = pad_image(x, minimum=math.isqrt(self.config.chunk - 1) + 1)
        shallow = self.head(self.subtract_mean(x))
        directions = iter(self._directions(shallow, generator))
        deep = shallow
        for block in self.body:
            hashes = isinstance(block, BucketAttention)
            deep = block(deep, next(directions)) if hashes else block(deep)
        features = self.upsampler(self.conv(deep) + shallow)
        out = self.add_mean(self.tail(features).to(x.dtype))
        return out[..., : self.config.scale * height, : self.config.scale * width]

    def _directions(self, x: Tensor, generator: torch.Generator | None) -> Tensor | list[Tensor]:
        """Random directions of every attention, in the order in which they are computed."""
        attentions = [block for block in self.body if isinstance(block, BucketAttention)]
        shape = attentions[0].directions_shape(x.shape[-2] * x.shape[-1])
        if generator is None and not self.training:
            return seeded_normal(self.config.seed, len(attentions), shape, x)
        device = x.device if generator is None else generator.device
        draws = (torch.randn(shape, generator=generator, device=device) for _ in attentions)
        return [drawn.to(x.device) for drawn in draws]

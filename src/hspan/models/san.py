"""SAN, second-order attention network (Dai, Cai, Zhang, Xia, Zhang, CVPR 2019).

non_local     a non-local block in each quarter of the features, before and after the groups
shared_scale  share-source skip connection, from the first of these to all groups
body          groups of residual blocks, channel attention by covariance, convolution

Departures: images are in [0, 1]. The non-local block's last convolution doesn't start at zero.
Covariances of features of exactly 1000 rows or columns are taken of all of them.

``conv`` and ``unused`` compute nothing: the authors' program stores and counts their weights, so
that both counts and checkpoints are its own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hspan.errors import UsageError
from hspan.modules import ResidualBackbone, ResidualBlock, ResidualGroup
from hspan.modules.embedded_gaussian import EmbeddedGaussian
from hspan.modules.padding import pad_image
from hspan.modules.second_order import SecondOrderAttention

_POOL = 2
_UNUSED_REDUCTION = 8


@dataclass(frozen=True, kw_only=True)
class SANConfig:
    """The published network; (code) marks values found only in the authors' program.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        channels: C of the features.
        num_groups: G, local-source residual attention groups.
        num_blocks: m, residual blocks in each.
        reduction: C / reduction channels inside the channel attention.
        inner_reduction: C / inner_reduction channels inside the non-local block (code).
    """

    scale: int = 4
    channels: int = 64
    num_groups: int = 20
    num_blocks: int = 10
    reduction: int = 16
    inner_reduction: int = 8

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        if self.scale not in (2, 3, 4):
            raise UsageError(f"scale must be 2, 3 or 4, got {self.scale}")
        if min(self.channels, self.num_groups, self.num_blocks) < 1:
            raise UsageError("channels, num_groups and num_blocks must be at least 1")
        if not 1 <= self.inner_reduction <= self.channels:
            raise UsageError(
                f"inner_reduction must lie in [1, {self.channels}], got {self.inner_reduction}"
            )


class SAN(ResidualBackbone):
    """Non-local blocks around groups of residual blocks with second-order channel attention.

    Args:
        config: hyper-parameters; the defaults are the paper's at ×4.
    """

    def __init__(self, config: SANConfig) -> None:
        def group() -> ResidualGroup:
            blocks: list[nn.Module] = [
                ResidualBlock(config.channels) for _ in range(config.num_blocks)
            ]
            blocks.append(SecondOrderAttention(config.channels, config.reduction))
            return ResidualGroup(config.channels, blocks)

        super().__init__(
            config.scale,
            config.channels,
            (group() for _ in range(config.num_groups)),
            stored_mean="trainable",
        )
        self.config = config
        self.non_local = EmbeddedGaussian(
            config.channels, config.channels // config.inner_reduction, _POOL, applications=2
        )
        self.shared_scale = nn.Parameter(torch.zeros(1))
        self.unused = _Unused(config.channels, config.num_groups)

    def deep(self, shallow: Tensor) -> Tensor:
        """Map the head's features [B, C, H, W] to what is enlarged, of the same shape."""
        source = self._by_region(shallow)
        features = source
        for group in self.body:
            features = group(features) + self.shared_scale * source
        return self._by_region(features) + shallow

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        height, width = (self.config.scale * side for side in x.shape[-2:])
        # Every quarter must hold a pooled key.
        return super().forward(pad_image(x, minimum=2 * _POOL))[..., :height, :width]

    def _by_region(self, x: Tensor) -> Tensor:
        """The non-local block in each quarter of [B, C, H, W]; the first halves are the smaller."""
        rows = x.split([x.shape[2] // 2, x.shape[2] - x.shape[2] // 2], dim=2)
        columns = [x.shape[3] // 2, x.shape[3] - x.shape[3] // 2]
        mixed = ([self.non_local(quarter) for quarter in row.split(columns, dim=3)] for row in rows)
        return torch.cat([torch.cat(row, dim=3) for row in mixed], dim=2)


class _Unused(nn.Module):
    """A channel attention beside the non-local block, and a scale for each group."""

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        inner = max(1, channels // _UNUSED_REDUCTION)
        self.reduce = nn.Conv2d(channels, inner, 1)
        self.expand = nn.Conv2d(inner, channels, 1)
        self.group_scales = nn.Parameter(torch.zeros(num_groups))

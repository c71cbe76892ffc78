"""RNAN, residual non-local attention network (Zhang, Li, Li, Zhong, Fu, ICLR 2019).

RNAN              attention blocks in a row, the first and the last of them non-local
AttentionBlock    a trunk of residual blocks, and a mask between 0 and 1 for it
EmbeddedGaussian  the non-local block that begins a non-local mask

Departures: images are in [0, 1], and padded to even sizes. The non-local block's last convolution
doesn't start at zero. As in the authors' program, and unlike the paper, the non-local weights of a
position as a key sum to 1 over the positions that ask for it.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from hspan.errors import UsageError
from hspan.modules import ResidualBackbone, ResidualBlock
from hspan.modules.embedded_gaussian import EmbeddedGaussian
from hspan.modules.padding import pad_image


@dataclass(frozen=True, kw_only=True)
class RNANConfig:
    """The published network; (code) marks values found only in the authors' program.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        channels: C of the features.
        num_blocks: attention blocks, the first and the last of them non-local.
        inner_reduction: C / inner_reduction channels inside the non-local blocks (code).
    """

    scale: int = 4
    channels: int = 64
    num_blocks: int = 10
    inner_reduction: int = 2

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        if self.scale not in (2, 3, 4):
            raise UsageError(f"scale must be 2, 3 or 4, got {self.scale}")
        if self.channels < 1 or self.num_blocks < 2:
            raise UsageError("channels must be at least 1 and num_blocks at least 2")
        if not 1 <= self.inner_reduction <= self.channels:
            raise UsageError(
                f"inner_reduction must lie in [1, {self.channels}], got {self.inner_reduction}"
            )


class AttentionBlock(nn.Module):
    """Residual (non-)local attention block: residual blocks, a trunk times a mask, a convolution.

    Args:
        channels: C of the features.
        inner: channels inside the mask's non-local block; None leaves that out.
    """

    def __init__(self, channels: int, inner: int | None = None) -> None:
        super().__init__()
        self.first = ResidualBlock(channels)
        self.trunk = nn.Sequential(ResidualBlock(channels), ResidualBlock(channels))
        self.mask = _Mask(channels, inner)
        self.last = nn.Sequential(ResidualBlock(channels), ResidualBlock(channels))
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W], H and W even, to the same shape."""
        x = self.first(x)
        return self.conv(self.last(x + self.trunk(x) * self.mask(x)))


class _Mask(nn.Module):
    """A weight in (0, 1) for every value, seen at full and at half size."""

    def __init__(self, channels: int, inner: int | None) -> None:
        super().__init__()
        self.non_local = nn.Identity() if inner is None else _non_local(channels, inner)
        self.before = ResidualBlock(channels)
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.coarse = nn.Sequential(ResidualBlock(channels), ResidualBlock(channels))
        self.up = nn.ConvTranspose2d(channels, channels, 6, stride=2, padding=2)
        self.after = ResidualBlock(channels)
        self.gate = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        full = self.before(self.non_local(x))
        return self.gate(self.after(full + self.up(self.coarse(self.down(full))))).sigmoid()


def _non_local(channels: int, inner: int) -> EmbeddedGaussian:
    return EmbeddedGaussian(channels, inner, weigh_queries=True)


class RNAN(ResidualBackbone):
    """Attention blocks whose masks are local, and at both ends non-local.

    Args:
        config: hyper-parameters; the defaults are the paper's at ×4.
    """

    def __init__(self, config: RNANConfig) -> None:
        channels, inner = config.channels, config.channels // config.inner_reduction
        blocks = [AttentionBlock(channels, inner)]
        blocks += [AttentionBlock(channels) for _ in range(config.num_blocks - 2)]
        super().__init__(config.scale, channels, blocks, stored_mean="trainable")
        self.config = config
        self.last = AttentionBlock(channels, inner)

    def deep(self, shallow: Tensor) -> Tensor:
        """Map the head's features [B, C, H, W] to what is enlarged, of the same shape."""
        return self.last(self.conv(self.body(shallow))) + shallow

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        height, width = (self.config.scale * side for side in x.shape[-2:])
        return super().forward(pad_image(x, multiple=2))[..., :height, :width]

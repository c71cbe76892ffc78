"""DRLN, densely residual Laplacian network (Anwar and Barnes, TPAMI 2022).

DenseResidualModule   three residual units of growing width, compression, Laplacian attention
LaplacianAttention    channel attention through three dilated convolutions
DRLN                  cascades of modules with dense and residual connections

As in the authors' program, where it differs from the paper's figures:

- every cascade's first dense connection is the last convolution's output before the skip is added;
- the second module of the second cascade sees what the first one sees, not the convolution of
  what came before, whose weights are stored and counted but not used;
- the convolutions in the attention see a single position, so only their central weights act;
- the mean that is subtracted is the one of images in [0, 1] although the program's images are in
  [0, 255]. The range leaves no trace in the weights and is a setting here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hspan.errors import UsageError
from hspan.models._checks import check_positive, check_scale
from hspan.modules import StoredMeanShift, Upsampler


@dataclass(frozen=True, kw_only=True)
class DRLNConfig:
    """The authors' program.

    Attributes:
        scale: upscaling factor: 2, 3, 4 or 8.
        channels: C of the features.
        cascades: modules in each cascade.
        reduction: of the Laplacian attention.
        rgb_range: the weights' range of values.
    """

    scale: int = 4
    channels: int = 64
    cascades: tuple[int, ...] = (3, 3, 3, 3, 4, 4)
    reduction: int = 16
    rgb_range: float = 255

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        check_scale(self.scale, (2, 3, 4, 8))
        # A configuration read from JSON holds lists.
        object.__setattr__(self, "cascades", tuple(self.cascades))
        if not self.cascades or min(self.cascades) < 1 or self.cascades[1:2] == (1,):
            raise UsageError("cascades must hold counts of at least 1, the second at least 2")
        if not 1 <= self.reduction <= self.channels:
            raise UsageError(f"reduction must lie in [1, {self.channels}], got {self.reduction}")
        check_positive(rgb_range=self.rgb_range)


class ReLUResidualUnit(nn.Module):
    """Two 3×3 convolutions beside an identity, and a ReLU after the addition too.

    Args:
        channels: C of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        return (self.conv2(self.conv1(x).relu()) + x).relu()


class LaplacianAttention(nn.Module):
    """Scale every channel by a weight in (0, 1) from the means of all channels.

    Args:
        channels: C of the features.
        reduction: C / reduction channels after each of the three dilated convolutions.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        inner = channels // reduction
        self.pyramid = nn.ModuleList(
            nn.Conv2d(channels, inner, 3, padding=d, dilation=d) for d in (3, 5, 7)
        )
        self.expand = nn.Conv2d(3 * inner, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        means = x.mean((2, 3), keepdim=True)
        levels = torch.cat([conv(means).relu() for conv in self.pyramid], dim=1)
        return x * self.expand(levels).sigmoid()


class DenseResidualModule(nn.Module):
    """Residual units on C, 2C and 4C channels, each joined by its input, then compression.

    Args:
        channels: C of the features.
        reduction: of the attention.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(ReLUResidualUnit(channels * width) for width in (1, 2, 4))
        self.compression = nn.Conv2d(8 * channels, channels, 1)
        self.attention = LaplacianAttention(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        for unit in self.units:
            x = torch.cat([x, unit(x)], dim=1)
        return self.attention(self.compression(x).relu())


class Cascade(nn.Module):
    """Modules in a row, each followed by a convolution of everything dense connections hold.

    Args:
        channels: C of the features.
        length: modules.
        reduction: of their attention.
        refeed: give the second module the cascade's input; the first convolution is then unused.
    """

    def __init__(self, channels: int, length: int, reduction: int, refeed: bool) -> None:
        super().__init__()
        self.refeed = refeed
        self.blocks = nn.ModuleList(DenseResidualModule(channels, reduction) for _ in range(length))
        self.fusions = nn.ModuleList(
            nn.Conv2d((i + 2) * channels, channels, 3, padding=1) for i in range(length)
        )

    def forward(self, last: Tensor, total: Tensor) -> Tensor:
        """Go through the cascade.

        Args:
            last: [B, C, H, W], the last convolution's output before this cascade.
            total: [B, C, H, W], the same with the skips around all cascades added.

        Returns:
            [B, C, H, W], this cascade's last convolution's output.
        """
        dense, fed = last, total
        for place, (block, fusion) in enumerate(zip(self.blocks, self.fusions, strict=True)):
            dense = torch.cat([dense, block(fed)], dim=1)
            if not (self.refeed and place == 0):
                fed = fusion(dense).relu()
        return fed


class DRLN(nn.Module):
    """Cascades of dense residual modules.

    Args:
        config: hyper-parameters; the defaults are the paper's at ×4.
    """

    def __init__(self, config: DRLNConfig) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        self.subtract_mean = StoredMeanShift(-1, trainable=False)
        self.head = nn.Conv2d(3, c, 3, padding=1)
        self.cascades = nn.ModuleList(
            Cascade(c, length, config.reduction, refeed=i == 1)
            for i, length in enumerate(config.cascades)
        )
        self.upsampler = Upsampler(config.scale, c, activation=True)
        self.tail = nn.Conv2d(c, 3, 3, padding=1)
        self.add_mean = StoredMeanShift(+1, trainable=False)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        value_range = self.config.rgb_range
        shallow = self.head(self.subtract_mean(x * value_range))
        detail = self.tail(self.upsampler(self._deep(shallow)))
        return self.add_mean(detail.to(x.dtype)) / value_range

    def _deep(self, shallow: Tensor) -> Tensor:
        last = total = shallow
        for cascade in self.cascades:
            last = cascade(last, total)
            total = last + total
        return total + shallow

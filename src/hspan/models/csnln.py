"""CSNLN, cross-scale non-local network (Mei, Fan, Zhou, Huang, Huang, Shi, CVPR 2020).

_Sources  cross-scale and in-scale attention, fused by what the one adds to the other
_Mining   self-exemplar mining cell: the fused features, corrected by what they lose on the way back
          to low resolution; the same cell is run again and again
CSNLN     the features of all runs together give the image

Departures: images are in [0, 1], and padded to multiples of the enlargement. At ×4 the cell
enlarges twice by 2, as in the authors' program.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.modules import MeanShift, ResidualBlock
from hspan.modules.attention import InScaleAttention
from hspan.modules.cross_scale import CrossScaleAttention
from hspan.modules.padding import pad_image

# Factors by which the cell enlarges, one after the other, and each convolution's side and padding
# between resolutions that differ by a ratio.
_FACTORS = {2: (2,), 3: (3,), 4: (2, 2)}
_GEOMETRY = {2: (6, 2), 3: (9, 3), 4: (8, 2)}


@dataclass(frozen=True, kw_only=True)
class CSNLNConfig:
    """The published network; (code) marks values found only in the authors' program.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        channels: C of the features.
        depth: runs of the cell.
        reduction: C / reduction channels for what the attentions compare (code).
    """

    scale: int = 4
    channels: int = 128
    depth: int = 12
    reduction: int = 2

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        if self.scale not in (2, 3, 4):
            raise UsageError(f"scale must be 2, 3 or 4, got {self.scale}")
        if self.channels < 1 or self.depth < 1:
            raise UsageError("channels and depth must be at least 1")


def _down(channels: int, ratio: int) -> nn.Sequential:
    side, padding = _GEOMETRY[ratio]
    conv = nn.Conv2d(channels, channels, side, stride=ratio, padding=padding)
    return nn.Sequential(conv, nn.PReLU())


def _up(channels: int, ratio: int) -> nn.Sequential:
    side, padding = _GEOMETRY[ratio]
    conv = nn.ConvTranspose2d(channels, channels, side, stride=ratio, padding=padding)
    return nn.Sequential(conv, nn.PReLU())


class _Sources(nn.Module):
    """Enlarge features with both attentions."""

    def __init__(self, config: CSNLNConfig, factor: int) -> None:
        super().__init__()
        c = config
        self.cross_scale = CrossScaleAttention(c.channels, factor, c.reduction, c.depth)
        self.in_scale = InScaleAttention(c.channels, c.reduction, c.depth)
        self.enlarge = _up(c.channels, factor)
        self.encode = ResidualBlock(c.channels, activation=nn.PReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, factor·H, factor·W]."""
        within = self.enlarge(self.in_scale(x))
        return within + self.encode(self.cross_scale(x) - within)


class _Stage(nn.Module):
    """Enlarge an estimate, then correct it by what it lost of the low-resolution features."""

    def __init__(self, config: CSNLNConfig, factor: int, ratio: int) -> None:
        super().__init__()
        self.sources = _Sources(config, factor)
        self.reduce = _down(config.channels, ratio)
        self.correct = _up(config.channels, ratio)

    def forward(self, estimate: Tensor, low: Tensor) -> Tensor:
        """Map an estimate and the features [B, C, H, W] to [B, C, ratio·H, ratio·W]."""
        enlarged = self.sources(estimate)
        return enlarged + self.correct(low - self.reduce(enlarged))


class _Mining(nn.Module):
    """Self-exemplar mining cell."""

    def __init__(self, config: CSNLNConfig) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        ratio = 1
        for factor in _FACTORS[config.scale]:
            ratio *= factor
            stages.append(_Stage(config, factor, ratio))
        self.stages = nn.ModuleList(stages)
        self.summary = _down(config.channels, ratio)
        post = nn.Conv2d(config.channels, config.channels, 3, padding=1)
        self.post = nn.Sequential(post, nn.PReLU())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B, C, H, W] to features of the same shape and [B, C, scale·H, scale·W]."""
        estimate = x
        for stage in self.stages:
            estimate = stage(estimate, x)
        return self.post(self.summary(estimate)), estimate


class CSNLN(nn.Module):
    """A cell of cross-scale and in-scale attention, run recurrently.

    Args:
        config: hyper-parameters; the defaults are the paper's at ×4.
    """

    def __init__(self, config: CSNLNConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.subtract_mean = MeanShift(-1)
        self.head = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.PReLU()),
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.PReLU()),
        )
        self.mining = _Mining(config)
        self.tail = nn.Conv2d(config.depth * channels, 3, 3, padding=1)
        self.add_mean = MeanShift(+1)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        height, width = (self.config.scale * side for side in x.shape[-2:])
        x = pad_image(x, multiple=_FACTORS[self.config.scale][0])
        features = self.head(self.subtract_mean(x))
        image, bias = x.new_zeros(()), self.tail.bias
        # The last convolution takes the features of all runs together. It takes those of each run
        # here, so that they needn't all be held: 1.6 GB at ×4 of 128×128.
        for weight in self.tail.weight.split(self.config.channels, dim=1):
            features, estimate = self.mining(features)
            image = image + F.conv2d(estimate, weight, bias, padding=1).to(x.dtype)
            bias = None  # added once
        return self.add_mean(image)[..., :height, :width]

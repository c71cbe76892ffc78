"""LapSRN: luma doubled level by level, each with a predicted residual.

Lai, Huang, Ahuja, Yang: "Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution",
CVPR 2017. Two branches run side by side: features, through 10 convolutions and a transposed one
that doubles them at every level; and the image, doubled by a transposed convolution that starts as
bilinear interpolation, to which a convolution of the features adds what it lacks (Section 3.2).

Scales that are no power of two come from the next one, reduced by bicubic interpolation, as in the
authors' program.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hspan.errors import UsageError
from hspan.models._checks import check_positive, check_scale
from hspan.modules import BicubicResize, luma, replace_luma
from hspan.modules.convolutions import start_lively

_SLOPE = 0.2  # of the leaky ReLUs, Section 3.4


@dataclass(frozen=True, kw_only=True)
class LapSRNConfig:
    """Section 3.4.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        channels: C of the features.
        depth: convolutions of each level.
        num_levels: doublings; None is as few as the scale needs. More than that are possible: the
            result is reduced.
        bias: whether convolutions have one: the authors' do, the usual PyTorch port's don't.
    """

    scale: int = 4
    channels: int = 64
    depth: int = 10
    num_levels: int | None = None
    bias: bool = False

    def __post_init__(self) -> None:
        """Settle the number of levels and check the ranges."""
        check_scale(self.scale)
        needed = math.ceil(math.log2(self.scale))
        if self.num_levels is None:
            object.__setattr__(self, "num_levels", needed)
        elif self.num_levels < needed:
            raise UsageError(
                f"scale {self.scale} needs {needed} levels of doubling, got {self.num_levels}"
            )
        check_positive(channels=self.channels, depth=self.depth)


class _Level(nn.Module):
    """One doubling of features and image."""

    def __init__(self, channels: int, depth: int, bias: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers.append(nn.Conv2d(channels, channels, 3, padding=1, bias=bias))
            layers.append(nn.LeakyReLU(_SLOPE, inplace=True))
        double = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=bias)
        self.features = nn.Sequential(*layers, double, nn.LeakyReLU(_SLOPE, inplace=True))
        self.residual = nn.Conv2d(channels, 1, 3, padding=1, bias=bias)
        for layer in self.features:
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                start_lively(layer, _SLOPE)
        start_lively(self.residual, _SLOPE, gain=0.01)  # near the interpolated image
        self.image = nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False)
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
        with torch.no_grad():
            self.image.weight[0, 0] = torch.outer(taps, taps)

    def forward(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B, C, H, W] and [B, 1, H, W] to the same with twice the size."""
        features = self.features(features)
        return features, self.image(image) + self.residual(features).to(image.dtype)


class LapSRN(nn.Module):
    """Laplacian pyramid super-resolution network.

    Args:
        config: hyper-parameters.
    """

    def __init__(self, config: LapSRNConfig) -> None:
        super().__init__()
        self.config = config
        levels = config.num_levels or 0  # settled by the configuration
        self.enlarge = BicubicResize(config.scale)
        self.head = nn.Conv2d(1, config.channels, 3, padding=1, bias=config.bias)
        start_lively(self.head)
        self.activation = nn.LeakyReLU(_SLOPE, inplace=True)
        self.levels = nn.ModuleList(
            _Level(config.channels, config.depth, config.bias) for _ in range(levels)
        )
        self.reduce = (
            nn.Identity() if 2**levels == config.scale else BicubicResize(config.scale, 2**levels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        y = luma(x)
        features = self.activation(self.head(y))
        for level in self.levels:
            features, y = level(features, y)
        return replace_luma(self.enlarge(x), self.reduce(y))

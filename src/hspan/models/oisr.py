"""OISR, ODE-inspired networks (He et al., CVPR 2019).

EDSR's frame with blocks that are steps of numerical integration; G is what a step evaluates:

LeapfrogBlock        "lf"   two-step leapfrog, a single convolution in each G
HeunBlock            "rk2"  second-order Runge-Kutta, two convolutions in each G
ThreeStageBlock      "rk3"  third-order Runge-Kutta, a single convolution in each G

The coefficients of the schemes are where training starts from; they are learned, and so are the
authors' mean shifts.
Departure: images are in [0, 1]; the authors' program works in [0, 255].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hspan.models._checks import check_choice, check_positive, check_scale
from hspan.modules import ResidualBackbone


@dataclass(frozen=True, kw_only=True)
class OISRConfig:
    """The authors' program (its paper names the sizes by parameters: 1.5 M, 5.5 M, 44 M at ×4).

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        method: of integration: "rk2", "lf" or "rk3".
        channels: C of the features: 64 in OISR-…-s, 122 in OISR-…-m, 256 in OISR-RK3.
        num_blocks: blocks in a row: 8, and 22 in OISR-RK3.
    """

    scale: int = 4
    method: Literal["rk2", "lf", "rk3"] = "rk3"
    channels: int = 256
    num_blocks: int = 22

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        check_scale(self.scale)
        check_choice("method", self.method, tuple(BLOCKS))
        check_positive(channels=self.channels, num_blocks=self.num_blocks)


class _Step(nn.Module):
    """PReLU and convolution pairs, and the scheme's coefficients.

    Args:
        channels: C of the features.
        num_convs: pairs.
        coefficients: where they start.
    """

    def __init__(self, channels: int, num_convs: int, coefficients: Sequence[float]) -> None:
        super().__init__()
        self.activations = nn.ModuleList(nn.PReLU(channels) for _ in range(num_convs))
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(num_convs)
        )
        self.coefficients = nn.ParameterList(torch.tensor([c]) for c in coefficients)

    def evaluate(self, index: int, x: Tensor) -> Tensor:
        """Activate and convolve with the pair of that index."""
        return self.convs[index](self.activations[index](x))


class LeapfrogBlock(_Step):
    """``y₁ = c₁G₁(y)``, ``y₂ = c₂G₂(y₁) + y``, ``y₃ = c₃G₃(y₂) + y₁``, out ``c₄G₄(y₃) + y₂``.

    Args:
        channels: C of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 4, (2.0, 2.0, 2.0, 2.0))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        c = self.coefficients
        y1 = c[0] * self.evaluate(0, x)
        y2 = c[1] * self.evaluate(1, y1) + x
        y3 = c[2] * self.evaluate(2, y2) + y1
        return c[3] * self.evaluate(3, y3) + y2


class HeunBlock(_Step):
    """``k₁ = G₁(y)``, ``k₂ = G₂(y + k₁)``, out ``y + c₁(k₁ + k₂)``.

    Args:
        channels: C of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 4, (0.5,))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        # Pairs 0 and 1 come first in G₁ and G₂, pairs 2 and 3 second.
        k1 = self.evaluate(2, self.evaluate(0, x))
        k2 = self.evaluate(3, self.evaluate(1, x + k1))
        return x + self.coefficients[0] * (k1 + k2)


class ThreeStageBlock(_Step):
    """``k₂ = G₂(y + c₁k₁)``, ``k₃ = G₃(y + c₂k₂ + c₃k₁)``, out ``y + c₅(k₁ + c₄k₂ + k₃)``.

    Args:
        channels: C of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 3, (0.5, 2.0, -1.0, 4.0, 1 / 6))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        c = self.coefficients
        k1 = self.evaluate(0, x)
        k2 = self.evaluate(1, x + c[0] * k1)
        k3 = self.evaluate(2, x + c[1] * k2 + c[2] * k1)
        return x + c[4] * (k1 + c[3] * k2 + k3)


BLOCKS: dict[str, Callable[[int], nn.Module]] = {
    "rk2": HeunBlock,
    "lf": LeapfrogBlock,
    "rk3": ThreeStageBlock,
}


class OISR(ResidualBackbone):
    """Steps of numerical integration between a convolution and sub-pixel upsampling.

    Args:
        config: hyper-parameters; the defaults are OISR-RK3's at ×4.
    """

    def __init__(self, config: OISRConfig) -> None:
        block = BLOCKS[config.method]
        super().__init__(
            config.scale,
            config.channels,
            (block(config.channels) for _ in range(config.num_blocks)),
            stored_mean="trainable",
        )
        self.config = config

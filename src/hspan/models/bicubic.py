"""Bicubic enlargement as a network: what every table starts from.

The numbers are those of ``hspan.imaging.imresize`` on floating-point images, without parameters
and differentiable. MATLAB rounds an 8-bit image after the rows and again after the columns; the
"bicubic" of ``hspan.evaluation`` does so too, a network can't, and rounds once at the end.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from hspan.models._checks import check_scale
from hspan.modules import BicubicResize


@dataclass(frozen=True, kw_only=True)
class BicubicConfig:
    """Nothing to choose.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
    """

    scale: int = 2

    def __post_init__(self) -> None:
        """Check the scale."""
        check_scale(self.scale)


class Bicubic(nn.Module):
    """Cubic convolution with a = −1/2 and mirrored borders.

    Args:
        config: the scale.
    """

    def __init__(self, config: BicubicConfig) -> None:
        super().__init__()
        self.config = config
        self.enlarge = BicubicResize(config.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        return self.enlarge(x)

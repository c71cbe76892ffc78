"""VDSR: twenty convolutions predict what an enlarged image's luma lacks.

Kim, Lee, Lee: "Accurate Image Super-Resolution Using Very Deep Convolutional Networks", CVPR 2016.
One set of weights serves every scale (Section 3.2): ``scale`` says by how much to enlarge.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from hspan.models._checks import check_positive, check_scale
from hspan.modules import BicubicResize, conv_chain, luma, move_luma


@dataclass(frozen=True, kw_only=True)
class VDSRConfig:
    """Section 3.1.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        channels: C of the features.
        num_layers: convolutions.
        bias: whether convolutions have one: the authors' do, the usual PyTorch port's don't.
    """

    scale: int = 2
    channels: int = 64
    num_layers: int = 20
    bias: bool = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_scale(self.scale)
        check_positive(channels=self.channels, num_layers=self.num_layers)


class VDSR(nn.Module):
    """Very deep super-resolution network.

    Args:
        config: hyper-parameters.
    """

    def __init__(self, config: VDSRConfig) -> None:
        super().__init__()
        self.config = config
        self.enlarge = BicubicResize(config.scale)
        hidden = (config.channels,) * (config.num_layers - 1)
        self.body = conv_chain((1, *hidden, 1), bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        enlarged = self.enlarge(x)
        return move_luma(enlarged, self.body(luma(enlarged)))

"""SRCNN: three convolutions on the luma of an enlarged image.

Dong, Loy, He, Tang: "Image Super-Resolution Using Deep Convolutional Networks", TPAMI 2016.

Section 3.1.1  body.0  patch extraction, 9×9
Section 3.1.2  body.2  non-linear mapping, 5×5
Section 3.1.3  body.4  reconstruction, 5×5

Departure: training starts from weights that pass the enlarged image unchanged, not from noise of
deviation 0.001; the network has no skip connection that would do it.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from hspan.errors import UsageError
from hspan.models._checks import check_choice, check_scale
from hspan.modules import BicubicResize, conv_chain, luma, replace_luma
from hspan.modules.convolutions import Padding, carry


@dataclass(frozen=True, kw_only=True)
class SRCNNConfig:
    """Section 4.3.2, the 9-5-5 network of the tables; 9-1-5 is the paper's basic setting.

    Attributes:
        scale: upscaling factor: 2, 3 or 4. Leaves no trace in the weights, but was trained for.
        channels: of the two hidden layers (Section 4.3.1).
        kernel_sizes: of the three convolutions.
        padding: what lies outside the image: "zeros" in the usual PyTorch port, "replicate" in the
            authors' MATLAB program.
    """

    scale: int = 2
    channels: tuple[int, int] = (64, 32)
    kernel_sizes: tuple[int, int, int] = (9, 5, 5)
    padding: Padding = "zeros"

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        check_scale(self.scale)
        check_choice("padding", self.padding, ("zeros", "replicate"))
        for name, length in (("channels", 2), ("kernel_sizes", 3)):
            # A configuration read from JSON holds lists.
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if len(getattr(self, name)) != length:
                raise UsageError(f"{name} must be {length} numbers, got {getattr(self, name)}")


class SRCNN(nn.Module):
    """Super-resolution convolutional neural network.

    Args:
        config: hyper-parameters.
    """

    def __init__(self, config: SRCNNConfig) -> None:
        super().__init__()
        self.config = config
        self.enlarge = BicubicResize(config.scale)
        self.body = conv_chain(
            (1, *config.channels, 1),
            kernel_sizes=config.kernel_sizes,
            padding_mode=config.padding,
        )
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                carry(layer, spread=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        enlarged = self.enlarge(x)
        return replace_luma(enlarged, self.body(luma(enlarged)))

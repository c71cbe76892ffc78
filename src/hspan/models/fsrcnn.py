"""FSRCNN: small convolutions on luma at LR size, and one transposed convolution that enlarges.

Dong, Loy, Tang: "Accelerating the Super-Resolution Convolutional Neural Network", ECCV 2016.

Section 3.2  extract  5×5 convolution to d channels
             shrink   1×1 to s channels
             mapping  m convolutions 3×3
             expand   1×1 back to d
             deconv   9×9 transposed convolution to luma, stride scale

Departure: training starts from weights that enlarge by interpolation, not from noise.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.imaging._resize import cubic
from hspan.models._checks import check_positive, check_scale
from hspan.modules import BicubicResize, luma, replace_luma
from hspan.modules.convolutions import carry

_SIDE = 9  # of the transposed convolution


@dataclass(frozen=True, kw_only=True)
class FSRCNNConfig:
    """Section 4.2: FSRCNN (56, 12, 4); FSRCNN-s is (32, 5, 1).

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        channels: d, of the first and last features.
        inner_channels: s, of the mapping.
        num_mappings: m.
        channel_slopes: a PReLU slope for every channel, as in a widespread PyTorch port; the
            authors have one for every layer.
        matlab: as in the authors' MATLAB program: the image's border is repeated outside it
            instead of zeros, and the ×3 network, which was trained to put its output one pixel
            above and left of where it belongs, gets it moved.
    """

    scale: int = 2
    channels: int = 56
    inner_channels: int = 12
    num_mappings: int = 4
    channel_slopes: bool = False
    matlab: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_scale(self.scale)
        check_positive(
            channels=self.channels,
            inner_channels=self.inner_channels,
            num_mappings=self.num_mappings,
        )


class FSRCNN(nn.Module):
    """Fast super-resolution convolutional neural network.

    Args:
        config: hyper-parameters.
    """

    def __init__(self, config: FSRCNNConfig) -> None:
        super().__init__()
        self.config = config
        wide, narrow = config.channels, config.inner_channels
        self.enlarge = BicubicResize(config.scale)
        self.extract = self._layer(1, wide, 5)
        self.shrink = self._layer(wide, narrow, 1)
        self.mapping = nn.Sequential(
            *(self._layer(narrow, narrow, 3) for _ in range(config.num_mappings))
        )
        self.expand = self._layer(narrow, wide, 1)
        move = int(config.matlab and config.scale == 3)
        # The border of one pixel at LR size that is repeated is cut off again at HR size.
        border = config.scale * config.matlab
        self.deconv = nn.ConvTranspose2d(
            wide,
            1,
            _SIDE,
            stride=config.scale,
            padding=_SIDE // 2 + border - move,
            output_padding=config.scale - 1 - 2 * move,
        )
        _interpolate(self.deconv)

    def _layer(self, inputs: int, outputs: int, side: int) -> nn.Sequential:
        c = self.config
        conv = nn.Conv2d(
            inputs,
            outputs,
            side,
            padding=side // 2,
            padding_mode="replicate" if c.matlab else "zeros",
        )
        carry(conv, spread=0.01)
        return nn.Sequential(conv, nn.PReLU(outputs if c.channel_slopes else 1))

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        features = self.expand(self.mapping(self.shrink(self.extract(luma(x)))))
        if self.config.matlab:
            features = F.pad(features, (1, 1, 1, 1), mode="replicate")
        return replace_luma(self.enlarge(x), self.deconv(features))


@torch.no_grad()
def _interpolate(deconv: nn.ConvTranspose2d) -> None:
    """Let the first channel be enlarged by cubic convolution, as far as the filter reaches.

    The others begin near zero (Section 4.1).
    """
    stride = deconv.stride[0]
    # Input i reaches outputs i·stride + k − 4, which lie at (k − 4 + 1/2)/stride − 1/2 from it.
    k = np.arange(_SIDE)
    taps = torch.from_numpy(cubic((k - _SIDE // 2 + 0.5) / stride - 0.5)).float()
    for phase in range(stride):
        taps[phase::stride] /= taps[phase::stride].sum()
    nn.init.normal_(deconv.weight, std=0.001)
    deconv.weight[0, 0] = torch.outer(taps, taps)
    nn.init.zeros_(deconv.bias)  # pyright: ignore[reportArgumentType] (it has one)

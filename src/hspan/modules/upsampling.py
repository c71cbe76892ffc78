"""Sub-pixel upsampling."""

from torch import nn

from hspan.errors import UsageError


class Upsampler(nn.Sequential):
    """Convolution to r²C channels and pixel shuffle; ×4 and ×8 are steps of ×2.

    Args:
        scale: 2, 3, 4 or 8.
        channels: C of the features.
        out_channels: of the enlarged features; None is C.
        activation: put a ReLU between convolution and shuffle (DRLN).
    """

    def __init__(
        self,
        scale: int,
        channels: int,
        out_channels: int | None = None,
        activation: bool = False,
    ) -> None:
        steps = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}.get(scale)
        if steps is None:
            raise UsageError(f"scale must be 2, 3, 4 or 8, got {scale}")
        out_channels = out_channels or channels
        layers: list[nn.Module] = []
        for r in steps:
            layers.append(nn.Conv2d(channels, r * r * out_channels, 3, padding=1))
            if activation:
                layers.append(nn.ReLU(inplace=True))
            layers.append(nn.PixelShuffle(r))
            channels = out_channels
        super().__init__(*layers)

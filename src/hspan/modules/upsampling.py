"""Sub-pixel upsampling."""

from torch import nn

from hspan.errors import UsageError


class Upsampler(nn.Sequential):
    """Convolution to r²C channels and pixel shuffle; ×4 is two steps of ×2.

    Args:
        scale: 2, 3 or 4.
        channels: C of the features, before and after.
    """

    def __init__(self, scale: int, channels: int) -> None:
        steps = {2: (2,), 3: (3,), 4: (2, 2)}.get(scale)
        if steps is None:
            raise UsageError(f"scale must be 2, 3 or 4, got {scale}")
        layers: list[nn.Module] = []
        for r in steps:
            layers += [nn.Conv2d(channels, r * r * channels, 3, padding=1), nn.PixelShuffle(r)]
        super().__init__(*layers)

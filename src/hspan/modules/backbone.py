"""The frame that EDSR gave to most networks after it.

Mean shift, 3×3 convolution to C channels, a body of blocks with a convolution and a long skip
connection, sub-pixel upsampling, 3×3 convolution to RGB, mean shift back.
"""

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from hspan.modules.color import MeanShift, StoredMeanShift
from hspan.modules.residual import ResidualBlock
from hspan.modules.upsampling import Upsampler


class ResidualBackbone(nn.Module):
    """Everything around the blocks; networks add what differs.

    Args:
        scale: upscaling factor.
        channels: C of the features.
        blocks: the body, modules that map [B, C, H, W] to the same shape.
        stored_mean: keep the mean shifts in the checkpoint: "trainable" or "frozen"; None makes
            them constants.
    """

    def __init__(
        self,
        scale: int,
        channels: int,
        blocks: Iterable[nn.Module],
        stored_mean: str | None = None,
    ) -> None:
        super().__init__()

        def shift(sign: int) -> nn.Module:
            if stored_mean is None:
                return MeanShift(sign)
            return StoredMeanShift(sign, trainable=stored_mean == "trainable")

        self.subtract_mean = shift(-1)
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(*blocks)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.upsampler = Upsampler(scale, channels)
        self.tail = nn.Conv2d(channels, 3, 3, padding=1)
        self.add_mean = shift(+1)

    def deep(self, shallow: Tensor) -> Tensor:
        """Map the head's features [B, C, H, W] to what is enlarged, of the same shape."""
        return self.conv(self.body(shallow)) + shallow

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        features = self.deep(self.head(self.subtract_mean(x)))
        # In the input's own precision: under autocast the detail may be bf16, the mean may not.
        return self.add_mean(self.tail(self.upsampler(features)).to(x.dtype))


def interleaved_blocks(
    channels: int,
    num_blocks: int,
    residual_scale: float,
    interval: int,
    attention: Callable[[], nn.Module],
) -> list[nn.Module]:
    """Residual blocks with attention before the first and after every ``interval``-th of them.

    Args:
        channels: C of the features.
        num_blocks: residual blocks.
        residual_scale: weight of each block's convolutions beside its input.
        interval: residual blocks between two attentions.
        attention: makes an attention that maps [B, C, H, W] to the same shape.
    """
    blocks = [attention()]
    for i in range(num_blocks):
        blocks.append(ResidualBlock(channels, residual_scale))
        if (i + 1) % interval == 0:
            blocks.append(attention())
    return blocks

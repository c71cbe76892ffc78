"""Colour shift at the borders of a network."""

import torch
from torch import Tensor, nn

# Mean RGB of DIV2K's training images in [0, 1], as every network of this family subtracts it.
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)


class MeanShift(nn.Module):
    """Subtract (sign = -1) or add (sign = +1) a mean colour; a constant, not a parameter.

    Args:
        sign: -1 or +1.
        mean: RGB in [0, 1].
    """

    shift: Tensor

    def __init__(self, sign: int, mean: tuple[float, float, float] = DIV2K_MEAN) -> None:
        super().__init__()
        self.register_buffer("shift", sign * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, 3, H, W] to the same shape."""
        return x + self.shift.to(x.dtype)


class StoredMeanShift(nn.Module):
    """A mean shift whose values belong to the checkpoint: a 1×1 convolution of colours.

    It starts as ``MeanShift`` does. Several programs set ``requires_grad = False`` on the module,
    which does nothing: their shifts are trained with everything else, and counted.

    Args:
        sign: -1 or +1.
        mean: RGB in [0, 1], where it starts.
        trainable: a parameter that training changes; False makes it a constant that is stored.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        sign: int,
        mean: tuple[float, float, float] = DIV2K_MEAN,
        trainable: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (
            ("weight", torch.eye(3).view(3, 3, 1, 1)),
            ("bias", sign * torch.tensor(mean)),
        ):
            if trainable:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, 3, H, W] to the same shape."""
        # Written out because autocast would run a convolution in 16 bits, too few for an image.
        columns = self.weight.to(x.dtype).unbind(1)
        out = self.bias.to(x.dtype).view(3, 1, 1)
        for channel, column in zip(x.split(1, dim=1), columns, strict=True):
            out = out + channel * column
        return out

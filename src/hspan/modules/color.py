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

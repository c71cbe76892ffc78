"""Self-attention inside windows that move by half a window from block to block.

Liu et al., Swin Transformer (ICCV 2021), as SwinIR (2021, Section 3.2) uses it:

WindowAttention   multi-head attention inside each window, with a bias for every relative position
WindowBlock       normalised attention and normalised two-layer perceptron, each beside a skip
window_mask       which positions of a moved window lie in different parts of the image

Shapes: B images of H × W positions, multiples of the window's side w; C channels; nW = H·W / w²
windows of N = w² positions. Features have their channels last.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.errors import UsageError

# What the program adds to the scores of positions that must not see one another.
_APART = -100.0


def window_mask(height: int, width: int, window: int, device: torch.device) -> Tensor:
    """What is added to the scores of windows moved by half their side.

    Moved windows at the bottom and right wrap around to the other end of the image.

    Returns:
        [nW, 1, N, N]: 0 where two positions of a window are neighbours in the image, -100 where
        the wrap brought them together.
    """

    def part(size: int) -> Tensor:
        position = torch.arange(size, device=device)
        return (position >= size - window).long() + (position >= size - window // 2).long()

    parts = 3 * part(height).unsqueeze(1) + part(width)
    labels = _windows(parts.view(1, height, width, 1), window).squeeze(-1)  # [nW, N]
    apart = labels.unsqueeze(1) != labels.unsqueeze(2)
    return (_APART * apart).unsqueeze(1)


def _windows(x: Tensor, window: int) -> Tensor:
    """[B, H, W, C] to [B·nW, N, C]."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(-1, window * window, channels)


def _image(windows: Tensor, height: int, width: int, window: int) -> Tensor:
    """[B·nW, N, C] to [B, H, W, C]."""
    x = windows.view(-1, height // window, width // window, window, window, windows.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


class WindowAttention(nn.Module):
    """Multi-head self-attention over the N positions of a window.

    Args:
        channels: C of the features.
        window: side of the window.
        num_heads: heads that share the channels evenly.
    """

    relative: Tensor

    def __init__(self, channels: int, window: int, num_heads: int) -> None:
        super().__init__()
        if channels % num_heads:
            raise UsageError(f"channels must be a multiple of {num_heads} heads, got {channels}")
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)
        self.position_bias = nn.Parameter(torch.empty((2 * window - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.position_bias, std=0.02)
        row, column = torch.arange(window).repeat_interleave(window), torch.arange(window)
        column = column.repeat(window)
        down = row.unsqueeze(1) - row + window - 1
        right = column.unsqueeze(1) - column + window - 1
        self.register_buffer("relative", down * (2 * window - 1) + right, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let the positions of each window see one another.

        Args:
            x: [B·nW, N, C].
            mask: [nW, 1, N, N], added to the scores.

        Returns:
            [B·nW, N, C].
        """
        heads = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)  # [B·nW, heads, N, C / heads]
        bias = self.position_bias[self.relative].permute(2, 0, 1).unsqueeze(0)  # [1, heads, N, N]
        if mask is not None:
            bias = (bias + mask.to(bias.dtype)).repeat(x.shape[0] // mask.shape[0], 1, 1, 1)
        mixed = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype))
        return self.projection(mixed.transpose(1, 2).flatten(2))


class WindowBlock(nn.Module):
    """Window attention, then a two-layer perceptron at every position.

    Args:
        channels: C of the features.
        window: side of the window.
        num_heads: of the attention.
        expansion: width of the perceptron's inner layer in multiples of C.
        shifted: move the windows by half their side.
        drop_path: probability that training leaves a branch out for an image (stochastic depth).
    """

    def __init__(
        self,
        channels: int,
        window: int,
        num_heads: int,
        expansion: float,
        shifted: bool,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        inner = int(channels * expansion)
        self.window = window
        self.shift = window // 2 if shifted else 0
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, window, num_heads)
        self.norm2 = nn.LayerNorm(channels)
        self.perceptron = nn.Sequential(
            nn.Linear(channels, inner), nn.GELU(), nn.Linear(inner, channels)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map [B, H, W, C] to the same shape, with ``window_mask`` of that size."""
        height, width = x.shape[1:3]
        inner = self.norm1(x)
        if self.shift:
            inner = inner.roll((-self.shift, -self.shift), dims=(1, 2))
        windows = self.attention(_windows(inner, self.window), mask if self.shift else None)
        inner = _image(windows, height, width, self.window)
        if self.shift:
            inner = inner.roll((self.shift, self.shift), dims=(1, 2))
        x = x + self._dropped(inner)
        return x + self._dropped(self.perceptron(self.norm2(x)))

    def _dropped(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, 1, device=branch.device) >= self.drop_path
        return branch * kept.to(branch.dtype) / (1 - self.drop_path)

"""SwinIR, image restoration with windowed transformers (Liang et al., ICCV workshops 2021).

Section 3.1  head, tail      shallow features; reconstruction by sub-pixel convolution
Section 3.2  WindowGroup     window blocks and a convolution beside a skip connection (RSTB)

Two networks share the class: classical SR ("pixelshuffle"), and lightweight SR
("pixelshuffledirect"), which makes the image with a single convolution.

Images are padded at the bottom and right to whole windows, inside the network.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hspan.errors import UsageError
from hspan.models._checks import check_choice, check_scale
from hspan.modules import MeanShift, Upsampler, WindowBlock, window_mask

_ENLARGED = 64  # channels of the enlarged features in the program


@dataclass(frozen=True, kw_only=True)
class SwinIRConfig:
    """Section 4.1; (code) marks values found only in the authors' program.

    Attributes:
        scale: upscaling factor: 2, 3, 4 or 8.
        channels: C of the features; 60 in SwinIR-light.
        depths: window blocks in each group; four groups in SwinIR-light.
        num_heads: of the attention in every block.
        window: M, side of the windows.
        expansion: width of the perceptrons in multiples of C (code).
        upsampler: "pixelshuffle", or "pixelshuffledirect" of SwinIR-light.
        drop_path: probability at which training leaves a branch of the last block out; it grows
            evenly from 0 in the first (code).
        padding: what fills the last windows. "reflect" is the authors' network, which pads sizes
            that aren't multiples of the window. "symmetric" is their test program, which repeats
            the border and always adds windows, at multiples too; it is what their tables were
            measured with. It may be changed after training.
    """

    scale: int = 4
    channels: int = 180
    depths: tuple[int, ...] = (6, 6, 6, 6, 6, 6)
    num_heads: int = 6
    window: int = 8
    expansion: float = 2
    upsampler: Literal["pixelshuffle", "pixelshuffledirect"] = "pixelshuffle"
    drop_path: float = 0.1
    padding: Literal["reflect", "symmetric"] = "reflect"

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        check_scale(self.scale, (2, 3, 4, 8))
        # A configuration read from JSON holds lists.
        object.__setattr__(self, "depths", tuple(self.depths))
        if not self.depths or min(self.depths) < 1:
            raise UsageError("depths must hold at least one count, and counts of at least 1")
        if self.window < 2:
            raise UsageError(f"window must be at least 2, got {self.window}")
        check_choice("upsampler", self.upsampler, ("pixelshuffle", "pixelshuffledirect"))
        if not 0 <= self.drop_path < 1:
            raise UsageError(f"drop_path must lie in [0, 1), got {self.drop_path}")
        check_choice("padding", self.padding, ("reflect", "symmetric"))


class WindowGroup(nn.Module):
    """Window blocks, every second one with moved windows, and a convolution beside a skip.

    Args:
        config: of the network.
        drop_paths: of each block.
    """

    def __init__(self, config: SwinIRConfig, drop_paths: list[float]) -> None:
        super().__init__()
        c = config
        self.blocks = nn.ModuleList(
            WindowBlock(c.channels, c.window, c.num_heads, c.expansion, i % 2 == 1, drop_path)
            for i, drop_path in enumerate(drop_paths)
        )
        self.conv = nn.Conv2d(c.channels, c.channels, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map [B, H, W, C] to the same shape, with ``window_mask`` of that size."""
        inner = x
        for block in self.blocks:
            inner = block(inner, mask)
        return self.conv(inner.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) + x


class SwinIR(nn.Module):
    """Groups of window attention between convolutions.

    Args:
        config: hyper-parameters; the defaults are those of classical SR at ×4.
    """

    def __init__(self, config: SwinIRConfig) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        self.subtract_mean = MeanShift(-1)
        self.head = nn.Conv2d(3, c, 3, padding=1)
        self.norm1 = nn.LayerNorm(c)
        drop_paths = torch.linspace(0, config.drop_path, sum(config.depths), device="cpu").tolist()
        self.groups = nn.ModuleList()
        for depth in config.depths:
            self.groups.append(WindowGroup(config, drop_paths[:depth]))
            drop_paths = drop_paths[depth:]
        self.norm2 = nn.LayerNorm(c)
        self.conv = nn.Conv2d(c, c, 3, padding=1)
        if config.upsampler == "pixelshuffle":
            self.tail = nn.Sequential(
                nn.Conv2d(c, _ENLARGED, 3, padding=1),
                nn.LeakyReLU(0.01),
                Upsampler(config.scale, _ENLARGED),
                nn.Conv2d(_ENLARGED, 3, 3, padding=1),
            )
        else:
            self.tail = nn.Sequential(
                nn.Conv2d(c, 3 * config.scale**2, 3, padding=1), nn.PixelShuffle(config.scale)
            )
        self.add_mean = MeanShift(+1)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        height, width = x.shape[-2:]
        shallow = self.head(self.subtract_mean(self._padded(self._padded(x, -2), -1)))
        deep = self.conv(self._deep(shallow)) + shallow
        detail = self.tail(deep)[..., : height * self.config.scale, : width * self.config.scale]
        # In the input's own precision: under autocast the detail may be bf16, the mean may not.
        return self.add_mean(detail.to(x.dtype))

    def _deep(self, shallow: Tensor) -> Tensor:
        height, width = shallow.shape[-2:]
        # Once for all blocks, and nothing is kept: it depends on the size alone.
        mask = window_mask(height, width, self.config.window, shallow.device)
        features = self.norm1(shallow.permute(0, 2, 3, 1))
        for group in self.groups:
            features = group(features, mask)
        return self.norm2(features).permute(0, 3, 1, 2)

    def _padded(self, x: Tensor, dim: int) -> Tensor:
        """Mirror what is missing to whole windows, as often as a small image needs."""
        size, window = x.shape[dim], self.config.window
        if self.config.padding == "reflect":
            length, period, turn = -(-size // window) * window, max(2 * size - 2, 1), 0
        else:
            length, period, turn = (size // window + 1) * window, 2 * size, 1
        if length == size:
            return x
        place = torch.arange(length, device=x.device) % period
        return x.index_select(dim, torch.where(place < size, place, period - turn - place))


def _initialise(module: nn.Module) -> None:
    """As the program does: small weights of linear layers, no biases."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)

"""MemNet: blocks that gate what they and all blocks before them remember.

Tai, Yang, Liu, Xu: "MemNet: A Persistent Memory Network for Image Restoration", ICCV 2017.

Section 3.1  head, tail  feature extraction and reconstruction
Section 3.2  blocks      memory blocks: R recursions of a residual unit, then the gate, a 1×1
                         convolution over short-term memory (the recursions) and long-term memory
                         (the features and all earlier blocks)
Section 3.3  weights     every block is reconstructed; the output is the weighted mean

All convolutions follow batch normalisation and ReLU. The paper shares a residual unit's two
convolutions among the R recursions: 676,992 weights ("677 K"), which is ``memnet-shared`` here.
The usual PyTorch port doesn't share them: 2,910,537 parameters, ``memnet`` here. One set of
weights serves every scale: ``scale`` says by how much to enlarge.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hspan.models._checks import check_positive, check_scale
from hspan.modules import BicubicResize, luma, move_luma
from hspan.modules.convolutions import start_lively


@dataclass(frozen=True, kw_only=True)
class MemNetConfig:
    """Section 4.2, M6R6.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        channels: C of the features.
        num_blocks: M, memory blocks.
        num_recursions: R, of a block's residual unit.
        shared: one pair of convolutions for all recursions of a block (the paper's); False is a
            pair for each (the port's). Batch normalisation is never shared.
        bias: whether convolutions have one (port).
        supervised: reconstruct every block and mix them (Section 3.3); False reconstructs the last.
    """

    scale: int = 2
    channels: int = 64
    num_blocks: int = 6
    num_recursions: int = 6
    shared: bool = False
    bias: bool = True
    supervised: bool = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_scale(self.scale)
        check_positive(
            channels=self.channels,
            num_blocks=self.num_blocks,
            num_recursions=self.num_recursions,
        )


class _PreActivation(nn.Module):
    """Batch normalisation, ReLU, convolution."""

    def __init__(self, inputs: int, outputs: int, side: int, bias: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, outputs, side, padding=side // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H, W]."""
        return self.conv(self.norm(x).relu())


class _MemoryBlock(nn.Module):
    """Recursions of a residual unit, and the gate."""

    def __init__(self, config: MemNetConfig, remembered: int) -> None:
        super().__init__()
        c, recursions = config.channels, config.num_recursions
        pairs = 1 if config.shared else recursions

        def convolutions() -> nn.ModuleList:
            return nn.ModuleList(
                nn.Conv2d(c, c, 3, padding=1, bias=config.bias) for _ in range(pairs)
            )

        self.norm1 = nn.ModuleList(nn.BatchNorm2d(c) for _ in range(recursions))
        self.conv1 = convolutions()
        self.norm2 = nn.ModuleList(nn.BatchNorm2d(c) for _ in range(recursions))
        self.conv2 = convolutions()
        self.gate = _PreActivation((recursions + remembered) * c, c, 1, config.bias)

    def forward(self, x: Tensor, memory: list[Tensor]) -> Tensor:
        """Map [B, C, H, W] to the same shape, with the long-term memory of such tensors."""
        recent: list[Tensor] = []
        for i, (norm1, norm2) in enumerate(zip(self.norm1, self.norm2, strict=True)):
            inner = self.conv1[i % len(self.conv1)](norm1(x).relu())
            x = x + self.conv2[i % len(self.conv2)](norm2(inner).relu())
            recent.append(x)
        return self.gate(torch.cat([*recent, *memory], dim=1))


class MemNet(nn.Module):
    """Persistent memory network.

    Args:
        config: hyper-parameters.
    """

    def __init__(self, config: MemNetConfig) -> None:
        super().__init__()
        self.config = config
        self.enlarge = BicubicResize(config.scale)
        self.head = _PreActivation(1, config.channels, 3, config.bias)
        self.blocks = nn.ModuleList(_MemoryBlock(config, i + 1) for i in range(config.num_blocks))
        self.tail = _PreActivation(config.channels, 1, 3, config.bias)
        start_lively(self.tail.conv, gain=0.1)  # near the enlarged image
        if config.supervised:
            self.weights = nn.Parameter(torch.full((config.num_blocks,), 1 / config.num_blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        enlarged = self.enlarge(x)
        features = self.head(luma(enlarged))
        memory = [features]
        for block in self.blocks:
            features = block(features, memory)
            memory.append(features)
        if not self.config.supervised:
            return move_luma(enlarged, self.tail(features))
        shares = self.weights / self.weights.sum()
        change = torch.zeros_like(enlarged[:, :1])
        for share, output in zip(shares.unbind(), memory[1:], strict=True):
            change = change + share * self.tail(output)
        return move_luma(enlarged, change)

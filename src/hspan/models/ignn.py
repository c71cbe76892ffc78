"""IGNN, internal graph neural network (Zhou, Zhang, Zuo, Loy, NeurIPS 2020).

_Compared   patches of the image, and of the image made smaller, are compared by features of VGG-19
            that stay as they are
_Exchange   neighbours are brought together at full and at low resolution, weighted by how they
            differ from what they stand for
IGNN        EDSR with the exchange in the middle

Departures: images are in [0, 1]. The smaller image is made here, by MATLAB's bicubic. Whether
patches are looked for everywhere or in a window is decided for each image by its own size. Images
of fewer patches than neighbours are padded. A fresh network's comparing features are random: VGG's
come with a checkpoint, and don't train.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.modules import BicubicResize, MeanShift, ResidualBlock, Upsampler
from hspan.modules.padding import pad_image
from hspan.modules.patch_graph import PatchGraph, patches_along
from hspan.modules.recompute import recomputed

_VGG_CHANNELS = 64
_VGG_MEAN = (0.485, 0.456, 0.406)  # of ImageNet in [0, 1], as VGG-19 was trained
_VGG_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class IGNNConfig:
    """The published network; (code) marks values found only in the authors' program.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        channels: C of the features.
        num_blocks: residual blocks, half of them before the exchange.
        neighbours: k, of each patch.
        residual_scale: weight of each block's convolutions beside its input (code).
    """

    scale: int = 4
    channels: int = 256
    num_blocks: int = 32
    neighbours: int = 5
    residual_scale: float = 0.1

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        if self.scale not in (2, 3, 4):
            raise UsageError(f"scale must be 2, 3 or 4, got {self.scale}")
        if min(self.channels, self.num_blocks) < 1:
            raise UsageError("channels and num_blocks must be at least 1")
        if not 1 <= self.neighbours <= 9:
            raise UsageError(f"neighbours must lie in [1, 9], got {self.neighbours}")


class _Compared(nn.Module):
    """What patches are compared by: VGG-19 up to the second ReLU, never trained."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _VGG_CHANNELS, 3, padding=1)
        self.conv2 = nn.Conv2d(_VGG_CHANNELS, _VGG_CHANNELS, 3, padding=1)
        self.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(_VGG_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer(
            "deviation", torch.tensor(_VGG_DEVIATION).view(3, 1, 1), persistent=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map RGB [B, 3, H, W] in [0, 1] to [B, 64, H, W]."""
        return self.conv2(self.conv1((x - self.mean) / self.deviation).relu()).relu()


class _EdgeWeight(nn.Sequential):
    """A number for how much a neighbour counts, from how it differs."""

    def __init__(self, residual_scale: float) -> None:
        super().__init__(
            nn.Conv2d(_VGG_CHANNELS, _VGG_CHANNELS, 1),
            ResidualBlock(_VGG_CHANNELS, residual_scale, side=1),
            nn.Conv2d(_VGG_CHANNELS, 1, 1),
        )


class _Exchange(nn.Module):
    """Bring every patch's neighbours together, at full size and at the size they are for."""

    def __init__(self, channels: int, scale: int, residual_scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, channels, 5, stride=scale, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.low_weight = _EdgeWeight(residual_scale)
        self.high_weight = _EdgeWeight(residual_scale)

    def forward(self, x: Tensor, graph: PatchGraph) -> tuple[Tensor, Tensor]:
        """Map [B, C, H, W] to the same shape, and to [B, C, s·H, s·W]."""
        differences = graph.differences()
        # A difference is the same all over an s × s block, and so is its weight.
        low_weights = torch.stack([self.low_weight(d) for d in differences]).softmax(dim=0)
        high_weights = torch.stack([self.high_weight(d) for d in differences]).softmax(dim=0)
        low, high = torch.zeros_like(x), x.new_zeros(())
        for index, low_weight, high_weight in zip(
            graph.index, low_weights, high_weights, strict=True
        ):
            neighbour = recomputed(graph.aggregate, x, index)
            low = low + low_weight * self.reduce(neighbour)
            blocks = F.interpolate(high_weight, scale_factor=self.scale, mode="nearest")
            high = high + blocks * neighbour
        return low, high


class IGNN(nn.Module):
    """Residual blocks around an exchange between alike patches of different scales.

    Args:
        config: hyper-parameters; the defaults are the paper's at ×4.
    """

    def __init__(self, config: IGNNConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        # At ×4 the graph is that of ×2, and a second step of ×2 follows.
        self._step = 3 if config.scale == 3 else 2

        def blocks(count: int) -> list[nn.Module]:
            return [ResidualBlock(channels, config.residual_scale) for _ in range(count)]

        def conv(inputs: int = channels) -> nn.Conv2d:
            return nn.Conv2d(inputs, channels, 3, padding=1)

        self.shrink = BicubicResize(1, self._step)
        self.compared = _Compared()
        self.subtract_mean = MeanShift(-1)
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.before = nn.Sequential(*blocks(config.num_blocks // 2))
        self.exchange = _Exchange(channels, self._step, config.residual_scale)
        self.fuse_low = nn.Sequential(conv(2 * channels), nn.ReLU(inplace=True), conv())
        self.after = nn.Sequential(*blocks(config.num_blocks - config.num_blocks // 2), conv())
        self.enlarge = Upsampler(self._step, channels)
        self.fuse_high = nn.Sequential(
            conv(2 * channels), nn.ReLU(inplace=True), conv(), nn.ReLU(inplace=True)
        )
        last = config.scale // self._step
        self.upsampler = Upsampler(last, channels) if last > 1 else nn.Identity()
        self.tail = nn.Conv2d(channels, 3, 3, padding=1)
        self.add_mean = MeanShift(+1)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        height, width = x.shape[-2:]
        places = patches_along(height // self._step) * patches_along(width // self._step)
        if places < self.config.neighbours:
            x = pad_image(x, minimum=6 * self._step)  # 3 × 3 patches
        graph = self._graph(x)
        shallow = self.head(self.subtract_mean(x))
        features = self.before(shallow)
        low, high = self.exchange(features, graph)
        deep = self.after(self.fuse_low(torch.cat([features, low], dim=1))) + shallow
        fused = self.fuse_high(torch.cat([self.enlarge(deep), high], dim=1))
        out = self.add_mean(self.tail(self.upsampler(fused)).to(x.dtype))
        return out[..., : self.config.scale * height, : self.config.scale * width]

    def _graph(self, x: Tensor) -> PatchGraph:
        """Whose patches look alike; nothing is learnt from that."""
        step = self._step
        height, width = (side - side % step for side in x.shape[-2:])
        with torch.no_grad():
            smaller = self.shrink(x[..., :height, :width]).clamp(0, 1)
            features = self.compared(x), self.compared(smaller)
            return PatchGraph(*features, self.config.neighbours, step)

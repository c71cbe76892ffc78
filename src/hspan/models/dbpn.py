"""DBPN, deep back-projection networks (Haris et al., CVPR 2018; extended, TPAMI 2020).

UpProjection    enlarge, shrink again, and correct by what was lost on the way
DownProjection  the same the other way round
DBPN            up and down in turn; each unit sees the outputs of all units of the other kind

Three networks share the class: DBPN (T = 7 stages), DBPN-LL (T = 10), and DBPN-RES-MR64-3 of the
extension, which runs its stages three times with the same weights.

Departure: ×3, which the authors don't have, continues their rule for kernels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.models._checks import check_positive, check_scale

# Kernel of a projection by its stride, with padding 2: 2 + 4, 4 + 4 and 8 + 4 in the program.
KERNELS = {2: 6, 3: 7, 4: 8, 8: 12}


@dataclass(frozen=True, kw_only=True)
class DBPNConfig:
    """The authors' program, which works in [0, 1] and subtracts no mean.

    Attributes:
        scale: upscaling factor: 2, 3, 4 or 8.
        channels: of the features between projection units.
        shallow_channels: of the first convolution.
        num_stages: T, up-projections; 10 in DBPN-LL.
        num_passes: how often the stages run, each time from the last features (recurrence); the
            output then sees the last enlarged features of each pass. None is DBPN, whose output
            sees those of all its stages.
        add_bicubic: add the enlarged input, as the program does with ``--residual True``, which
            checkpoints trained so need (the authors' DBPN-RES-MR64-3); they show no trace of it.
    """

    scale: int = 4
    channels: int = 64
    shallow_channels: int = 256
    num_stages: int = 7
    num_passes: int | None = None
    add_bicubic: bool = False

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        check_scale(self.scale, tuple(KERNELS))
        check_positive(channels=self.channels, shallow_channels=self.shallow_channels)
        if self.num_stages < 2:
            raise UsageError(f"num_stages must be at least 2, got {self.num_stages}")
        if self.num_passes is not None:
            check_positive(num_passes=self.num_passes)


class _Projection(nn.Module):
    """What up- and down-projection share: back and forth, and the correction.

    Args:
        channels: of the features, in and out.
        scale: of one step.
        inputs: feature maps that are joined first; 1 needs no joining.
        up: enlarge first.
    """

    def __init__(self, channels: int, scale: int, inputs: int, up: bool) -> None:
        super().__init__()
        self.joint = None if inputs == 1 else _activated(nn.Conv2d(channels * inputs, channels, 1))
        kinds = (nn.ConvTranspose2d, nn.Conv2d) if up else (nn.Conv2d, nn.ConvTranspose2d)
        forth, back, again = (
            _activated(kind(channels, channels, KERNELS[scale], stride=scale, padding=2))
            for kind in (*kinds, kinds[0])
        )
        self.forth, self.back, self.again = forth, back, again

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs·C, H, W] to [B, C, H', W'] of the other resolution."""
        if self.joint is not None:
            x = self.joint(x)
        first = self.forth(x)
        return self.again(self.back(first) - x) + first


class UpProjection(_Projection):
    """Project features to the enlarged resolution.

    Args:
        channels: of the features, in and out.
        scale: from one resolution to the other.
        inputs: feature maps of ``channels`` that come in.
    """

    def __init__(self, channels: int, scale: int, inputs: int = 1) -> None:
        super().__init__(channels, scale, inputs, up=True)


class DownProjection(_Projection):
    """Project features back to the resolution of the input.

    Args:
        channels: of the features, in and out.
        scale: from one resolution to the other.
        inputs: feature maps of ``channels`` that come in.
    """

    def __init__(self, channels: int, scale: int, inputs: int = 1) -> None:
        super().__init__(channels, scale, inputs, up=False)


def _activated(conv: nn.Module) -> nn.Sequential:
    return nn.Sequential(conv, nn.PReLU())


class DBPN(nn.Module):
    """Dense up- and down-projections.

    Args:
        config: hyper-parameters; the defaults are DBPN's at ×4.
    """

    def __init__(self, config: DBPNConfig) -> None:
        super().__init__()
        self.config = config
        c, scale, stages = config.channels, config.scale, config.num_stages
        self.head = _activated(nn.Conv2d(3, config.shallow_channels, 3, padding=1))
        self.reduce = _activated(nn.Conv2d(config.shallow_channels, c, 1))
        self.up = nn.ModuleList(UpProjection(c, scale, max(i, 1)) for i in range(stages))
        self.down = nn.ModuleList(DownProjection(c, scale, i + 1) for i in range(stages - 1))
        self.tail = nn.Conv2d((config.num_passes or stages) * c, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        out = self.tail(self._deep(self.reduce(self.head(x)))).to(x.dtype)
        if not self.config.add_bicubic:
            return out
        # The antialiased kernel is the one of the image library that the program enlarges with.
        scale = float(self.config.scale)
        return out + F.interpolate(x, scale_factor=scale, mode="bicubic", antialias=True)

    def _deep(self, low: Tensor) -> Tensor:
        """What the output convolution sees."""
        if self.config.num_passes is None:
            return self._stages(low)[0]
        collected: list[Tensor] = []
        for _ in range(self.config.num_passes):
            high, low = self._stages(low)
            collected.append(high[:, : self.config.channels])
        return torch.cat(collected, dim=1)

    def _stages(self, low: Tensor) -> tuple[Tensor, Tensor]:
        """All enlarged features, the newest first, and the newest at the input's resolution."""
        high = self.up[0](low)
        seen: Tensor | None = None
        for up, down in zip(self.up[1:], self.down, strict=True):
            low = down(high)
            seen = low if seen is None else torch.cat([low, seen], dim=1)
            high = torch.cat([up(seen), high], dim=1)
        return high, low

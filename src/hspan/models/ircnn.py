"""IRCNN: super-resolution by a denoiser that is plugged into an iteration.

Zhang, Zuo, Gu, Zhang: "Learning Deep CNN Denoiser Prior for Image Restoration", CVPR 2017. Half
quadratic splitting turns the search for an image that explains the LR image and looks natural into
two steps, repeated while the assumed noise falls (Section 3.1):

data step   back projection (Section 4.3): what the reduced estimate misses is enlarged and added
prior step  a denoiser of seven dilated convolutions (Section 3.2) removes noise of that strength

The authors train 25 denoisers, for noise of 2, 4, …, 50 of 255 (Section 4.1); their checkpoint
holds all of them. A network made here has one, used at every step, which can be trained through the
whole iteration.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor, nn

from hspan.errors import UsageError
from hspan.models._checks import check_choice, check_positive, check_scale
from hspan.modules import (
    BicubicResize,
    BlurDecimate,
    conv_chain,
    luma,
    replace_luma,
)

DILATIONS = (1, 2, 3, 4, 3, 2, 1)  # Fig. 1
_STRONGEST = 50  # noise of the last denoiser, of 255


@dataclass(frozen=True, kw_only=True)
class IRCNNConfig:
    """Sections 3.2 and 4.3; (code) marks values found only in the authors' program.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        kind: how LR images come about, "BI" or "BD" (only scale 3); what the data step inverts.
        colour: denoise RGB; False denoises luma.
        channels: C of the features.
        num_denoisers: 1, or the authors' 25.
        iterations: of both steps (Section 4.3).
        projections: back projections per data step (Section 4.3).
        step: of a back projection (Section 4.3).
    """

    scale: int = 2
    kind: Literal["BI", "BD"] = "BI"
    colour: bool = True
    channels: int = 64
    num_denoisers: int = 1
    iterations: int = 30
    projections: int = 5
    step: float = 1.75

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        check_scale(self.scale)
        check_choice("kind", self.kind, ("BI", "BD"))
        if self.kind == "BD" and self.scale != 3:
            raise UsageError(f"BD exists at scale 3 only, got {self.scale}")
        check_positive(
            channels=self.channels,
            num_denoisers=self.num_denoisers,
            iterations=self.iterations,
        )


class IRCNN(nn.Module):
    """Plug-and-play super-resolution with a convolutional denoiser.

    Args:
        config: hyper-parameters.
    """

    def __init__(self, config: IRCNNConfig) -> None:
        super().__init__()
        self.config = config
        self.enlarge = BicubicResize(config.scale)
        self.reduce = BlurDecimate() if config.kind == "BD" else BicubicResize(1, config.scale)
        colours = 3 if config.colour else 1
        hidden = (config.channels,) * (len(DILATIONS) - 1)
        self.denoisers = nn.ModuleList(
            conv_chain((colours, *hidden, colours), dilations=DILATIONS)
            for _ in range(config.num_denoisers)
        )
        # From 12·scale of 255 down to scale (code), equal in the ratio from one step to the next.
        first, last = math.log10(12 * config.scale), math.log10(config.scale)
        noises = 10 ** np.linspace(first, last, config.iterations)
        self._order = tuple(self._denoiser(float(noise)) for noise in noises)

    def _denoiser(self, noise: float) -> int:
        """Which one is for noise of that standard deviation, of 255."""
        count = self.config.num_denoisers
        return min(count, max(math.ceil(noise * count / _STRONGEST), 1)) - 1

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        if self.config.colour:
            return self._iterate(x)
        return replace_luma(self.enlarge(x), self._iterate(luma(x)))

    def _iterate(self, lr: Tensor) -> Tensor:
        estimate = self.enlarge(lr)
        for index in self._order:
            for _ in range(self.config.projections):
                missing = lr - self.reduce(estimate)
                estimate = estimate + self.config.step * self.enlarge(missing)
            # What a denoiser computes is the noise; in the image's own precision under autocast.
            estimate = estimate - self.denoisers[index](estimate).to(lr.dtype)
        return estimate

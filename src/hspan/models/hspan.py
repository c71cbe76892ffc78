"""HSPAN, the paper's network.

Eq. (1)        head             a 3×3 convolution from RGB to C channels
Eqs. (2), (3)  body, conv      HSPAM in a row, then a 3×3 convolution and the long skip connection
Eq. (4)        upsampler, tail  sub-pixel convolution and a last 3×3 convolution to RGB

Departure: images are in [0, 1] whatever range a checkpoint was trained in; ``hspan.load_model``
rescales the first and last convolutions of checkpoints that were trained in [0, 255].
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from hspan.errors import UsageError
from hspan.modules import HSPA, HSPAM, NLA, MeanShift, Upsampler


@dataclass(frozen=True, kw_only=True)
class HSPANConfig:
    """Sections III-A, IV-B, IV-C; (code) marks values found only in the authors' program.

    Attributes:
        scale: upscaling factor: 2, 3 or 4.
        channels: C of the features; also what the head gives and the tail takes.
        num_modules: attention-based modules (HSPAM) in a row.
        num_blocks: residual blocks in each module's LEB; 0 leaves the LEB out (Table I).
        attention: the non-local block: "hspa", or "nla", "nla-random" (Fig. 2), "none" (Table I).
        attention_modules: indices of the modules that hold the block; None is all of them,
            HSPAN-S keeps one in the middle (Section IV-D).
        reduction: C / reduction channels for query and key (code).
        topk: truncation (Section IV-C2); None is exact, 0 switches HSPA off.
        samples: positions that "nla-random" draws (Fig. 2).
        residual_scale: weight of each module's branch and of the attention in it (code).
    """

    scale: int = 4
    channels: int = 192
    num_modules: int = 10
    num_blocks: int = 4
    attention: Literal["hspa", "nla", "nla-random", "none"] = "hspa"
    attention_modules: tuple[int, ...] | None = None
    reduction: int = 2
    topk: int | None = 128
    samples: int = 512
    residual_scale: float = 0.1

    def __post_init__(self) -> None:
        """Check what no other check would explain as clearly."""
        if self.scale not in (2, 3, 4):
            raise UsageError(f"scale must be 2, 3 or 4, got {self.scale}")
        if self.channels < 1 or self.num_modules < 1 or self.num_blocks < 0:
            raise UsageError("channels and num_modules must be at least 1, num_blocks at least 0")
        if self.attention not in ("hspa", "nla", "nla-random", "none"):
            raise UsageError(
                f"attention must be hspa, nla, nla-random or none, got {self.attention!r}"
            )
        if self.attention_modules is not None:
            # A configuration read from JSON holds lists.
            object.__setattr__(self, "attention_modules", tuple(self.attention_modules))
            if any(not 0 <= i < self.num_modules for i in self.attention_modules):
                raise UsageError(
                    f"attention_modules must lie in [0, {self.num_modules - 1}], "
                    f"got {self.attention_modules}"
                )


class HSPAN(nn.Module):
    """High-similarity-pass attention network.

    Args:
        config: hyper-parameters; the defaults are the paper's at ×4.
    """

    def __init__(self, config: HSPANConfig) -> None:
        super().__init__()
        self.config = config
        self.subtract_mean = MeanShift(-1)
        self.head = nn.Conv2d(3, config.channels, 3, padding=1)
        self.body = nn.Sequential(*(self._module(i) for i in range(config.num_modules)))
        self.conv = nn.Conv2d(config.channels, config.channels, 3, padding=1)
        self.upsampler = Upsampler(config.scale, config.channels)
        self.tail = nn.Conv2d(config.channels, 3, 3, padding=1)
        self.add_mean = MeanShift(+1)

    def _module(self, index: int) -> HSPAM:
        c = self.config
        here = c.attention_modules is None or index in c.attention_modules
        return HSPAM(
            c.channels, c.num_blocks, self._attention() if here else None, c.residual_scale
        )

    def _attention(self) -> nn.Module | None:
        c = self.config
        if c.attention == "hspa":
            return HSPA(c.channels, c.reduction, c.topk, c.residual_scale)
        if c.attention == "none":
            return None
        samples = c.samples if c.attention == "nla-random" else None
        return NLA(c.channels, c.reduction, samples, c.residual_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Upscale images.

        Args:
            x: [B, 3, H, W], RGB in [0, 1].

        Returns:
            [B, 3, scale·H, scale·W], RGB, not clipped.
        """
        shallow = self.head(self.subtract_mean(x))
        deep = self.conv(self.body(shallow)) + shallow
        # In the input's own precision: under autocast the detail may be bf16, the mean may not.
        return self.add_mean(self.tail(self.upsampler(deep)).to(x.dtype))

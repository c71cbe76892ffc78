"""Blocks that networks share."""

from hspan.modules.attention import HSPA, NLA
from hspan.modules.color import MeanShift
from hspan.modules.residual import HSPAM, LEB, ResidualBlock
from hspan.modules.upsampling import Upsampler
from hspan.modules.weighting import ReplaceableWeighting, Weighting, attend, weigh

__all__ = [
    "HSPA",
    "HSPAM",
    "LEB",
    "NLA",
    "MeanShift",
    "ReplaceableWeighting",
    "ResidualBlock",
    "Upsampler",
    "Weighting",
    "attend",
    "weigh",
]

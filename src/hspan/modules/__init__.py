"""Blocks that networks share."""

from hspan.modules.attention import HSPA, NLA
from hspan.modules.color import MeanShift
from hspan.modules.residual import HSPAM, LEB, ResidualBlock
from hspan.modules.upsampling import Upsampler

__all__ = ["HSPA", "HSPAM", "LEB", "NLA", "MeanShift", "ResidualBlock", "Upsampler"]

"""Blocks that networks share."""

from hspan.modules.attention import HSPA, NLA
from hspan.modules.color import MeanShift
from hspan.modules.convolutions import conv_chain
from hspan.modules.luma import luma, move_luma, replace_luma
from hspan.modules.residual import HSPAM, LEB, ResidualBlock
from hspan.modules.resize import BicubicResize, BlurDecimate
from hspan.modules.upsampling import Upsampler

__all__ = [
    "HSPA",
    "HSPAM",
    "LEB",
    "NLA",
    "BicubicResize",
    "BlurDecimate",
    "MeanShift",
    "ResidualBlock",
    "Upsampler",
    "conv_chain",
    "luma",
    "move_luma",
    "replace_luma",
]

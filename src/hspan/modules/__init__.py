"""Blocks that networks share."""

from hspan.modules.attention import HSPA, NLA
from hspan.modules.backbone import ResidualBackbone
from hspan.modules.channel_attention import (
    ChannelAttention,
    ResidualChannelAttentionBlock,
    ResidualGroup,
)
from hspan.modules.color import MeanShift, StoredMeanShift
from hspan.modules.convolutions import conv_chain
from hspan.modules.dense import DenseLayer, ResidualDenseBlock
from hspan.modules.luma import luma, move_luma, replace_luma
from hspan.modules.residual import HSPAM, LEB, ResidualBlock
from hspan.modules.resize import BicubicResize, BlurDecimate
from hspan.modules.upsampling import Upsampler
from hspan.modules.weighting import ReplaceableWeighting, Weighting, attend, weigh
from hspan.modules.window_attention import WindowAttention, WindowBlock, window_mask

__all__ = [
    "HSPA",
    "HSPAM",
    "LEB",
    "NLA",
    "BicubicResize",
    "BlurDecimate",
    "ChannelAttention",
    "DenseLayer",
    "MeanShift",
    "ReplaceableWeighting",
    "ResidualBackbone",
    "ResidualBlock",
    "ResidualChannelAttentionBlock",
    "ResidualDenseBlock",
    "ResidualGroup",
    "StoredMeanShift",
    "Upsampler",
    "Weighting",
    "WindowAttention",
    "WindowBlock",
    "attend",
    "conv_chain",
    "luma",
    "move_luma",
    "replace_luma",
    "weigh",
    "window_mask",
]

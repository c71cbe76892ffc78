"""Blocks that networks share."""

from hspan.modules.attention import HSPA, NLA
from hspan.modules.backbone import ResidualBackbone
from hspan.modules.channel_attention import (
    ChannelAttention,
    ResidualChannelAttentionBlock,
    ResidualGroup,
)
from hspan.modules.color import MeanShift, StoredMeanShift
from hspan.modules.dense import DenseLayer, ResidualDenseBlock
from hspan.modules.residual import HSPAM, LEB, ResidualBlock
from hspan.modules.upsampling import Upsampler
from hspan.modules.window_attention import WindowAttention, WindowBlock, window_mask

__all__ = [
    "HSPA",
    "HSPAM",
    "LEB",
    "NLA",
    "ChannelAttention",
    "DenseLayer",
    "MeanShift",
    "ResidualBackbone",
    "ResidualBlock",
    "ResidualChannelAttentionBlock",
    "ResidualDenseBlock",
    "ResidualGroup",
    "StoredMeanShift",
    "Upsampler",
    "WindowAttention",
    "WindowBlock",
    "window_mask",
]

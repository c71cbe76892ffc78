"""Channel attention and its blocks against their formulas."""

import pytest
import torch
from torch.nn import functional as F

from hspan import UsageError
from hspan.modules import ChannelAttention, ResidualChannelAttentionBlock, ResidualGroup


@pytest.fixture
def features():
    return torch.randn(2, 8, 5, 6, generator=torch.Generator().manual_seed(0))


def test_attention(features):
    block = ChannelAttention(8, reduction=4)
    gates = []
    for image in features:
        means = image.flatten(1).mean(1)
        hidden = (block.reduce.weight[:, :, 0, 0] @ means + block.reduce.bias).clamp(min=0)
        gates.append(torch.sigmoid(block.expand.weight[:, :, 0, 0] @ hidden + block.expand.bias))
    expected = features * torch.stack(gates)[:, :, None, None]
    torch.testing.assert_close(block(features), expected)


def test_attention_block(features):
    block = ResidualChannelAttentionBlock(8, reduction=2)
    branch = block.conv2(F.relu(block.conv1(features)))
    torch.testing.assert_close(block(features), features + block.attention(branch))


def test_group(features):
    group = ResidualGroup(8, [ChannelAttention(8, 2), ChannelAttention(8, 4)])
    inner = group.blocks[1](group.blocks[0](features))
    torch.testing.assert_close(group(features), features + group.conv(inner))


@pytest.mark.parametrize("reduction", [0, 9])
def test_wrong_reduction(reduction):
    with pytest.raises(UsageError, match=r"\[1, 8\]"):
        ChannelAttention(8, reduction)

"""Residual blocks against their formulas."""

import torch
from torch import nn

from hspan.modules import HSPAM, LEB, ResidualBlock


def test_residual_block():
    block = ResidualBlock(4, residual_scale=0.5)
    x = torch.randn(1, 4, 6, 5)
    torch.testing.assert_close(block(x), x + 0.5 * block.conv2(block.conv1(x).relu()))


def test_input_survives_the_inplace_activation():
    x = torch.randn(1, 4, 6, 5)
    before = x.clone()
    LEB(4)(x)
    assert torch.equal(x, before)


def test_module_scales_its_branch():
    doubled = nn.Conv2d(4, 4, 1)
    module = HSPAM(4, num_blocks=2, attention=doubled)
    x = torch.randn(1, 4, 6, 5)
    torch.testing.assert_close(module(x), x + 0.1 * module.conv(doubled(module.leb(x))))


def test_leb_and_attention_can_be_left_out():
    module = HSPAM(4, num_blocks=0)
    x = torch.randn(1, 4, 6, 5)
    torch.testing.assert_close(module(x), x + 0.1 * module.conv(x))

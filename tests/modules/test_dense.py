"""Dense blocks against their formulas."""

import torch

from hspan.modules import DenseLayer, ResidualDenseBlock


def test_layer_appends_to_its_input():
    layer = DenseLayer(4, 3)
    x = torch.randn(1, 4, 5, 6)
    out = layer(x)
    assert torch.equal(out[:, :4], x)
    torch.testing.assert_close(out[:, 4:], layer.conv(x).clamp(min=0))


def test_block_fuses_all_layers():
    block = ResidualDenseBlock(4, growth=3, num_layers=2)
    x = torch.randn(1, 4, 5, 6)
    seen = block.layers[1](block.layers[0](x))
    assert seen.shape[1] == 4 + 2 * 3
    torch.testing.assert_close(block(x), x + block.fusion(seen))

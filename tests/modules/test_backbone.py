"""The frame around residual networks."""

import pytest
import torch

from hspan.modules import MeanShift, ResidualBackbone, ResidualBlock, StoredMeanShift


@pytest.mark.parametrize(
    ("stored_mean", "kind", "trained"),
    [(None, MeanShift, 0), ("frozen", StoredMeanShift, 0), ("trainable", StoredMeanShift, 24)],
)
def test_mean_shift(stored_mean, kind, trained):
    network = ResidualBackbone(2, 4, [ResidualBlock(4)], stored_mean)
    assert isinstance(network.add_mean, kind)
    shifts = (network.subtract_mean, network.add_mean)
    assert sum(p.numel() for shift in shifts for p in shift.parameters()) == trained


def test_formula():
    torch.manual_seed(0)
    network = ResidualBackbone(3, 4, [ResidualBlock(4)])
    x = torch.rand(1, 3, 5, 6)
    mean = torch.tensor([0.4488, 0.4371, 0.4040]).view(3, 1, 1)
    shallow = network.head(x - mean)
    deep = network.conv(network.body[0](shallow)) + shallow
    expected = network.tail(torch.pixel_shuffle(network.upsampler[0](deep), 3)) + mean
    torch.testing.assert_close(network(x), expected)

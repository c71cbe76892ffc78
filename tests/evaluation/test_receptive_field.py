"""Receptive fields by hand, at LR size, on enlarged input, in windows, and global ones."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hspan import create_model
from hspan.evaluation import receptive_field


class Nearest(nn.Module):
    """Convolutions before and after enlargement by repetition."""

    def __init__(self, scale, before=1, after=1):
        super().__init__()
        self.scale = scale
        self.before = nn.Conv2d(3, 3, before, padding=before // 2)
        self.after = nn.Conv2d(3, 3, after, padding=after // 2)

    def forward(self, x):
        return self.after(F.interpolate(self.before(x), scale_factor=self.scale, mode="nearest"))


class Windows(nn.Module):
    """The mean over windows of 8 columns, then over 3 columns."""

    def forward(self, x):
        blocks = x.unflatten(-1, (-1, 8))
        mixed = (blocks + blocks.mean(-1, keepdim=True)).flatten(-2)
        return F.avg_pool2d(mixed, (1, 3), stride=1, padding=(0, 1)).relu()


class Pooled(nn.Module):
    def forward(self, x):
        return x * x.mean(dim=(-2, -1), keepdim=True).sigmoid()


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("period", [1, 4])
def test_convolutions_at_lr_size(scale, period):
    assert receptive_field(Nearest(scale, before=5), scale, period=period) == 5


@pytest.mark.parametrize(("scale", "field"), [(2, 3), (3, 3), (4, 2)])
def test_convolutions_at_sr_size(scale, field):
    """Five SR columns lie in two or three LR columns."""
    assert receptive_field(Nearest(scale, after=5), scale) == field


def test_faint_influence_counts():
    network = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(40)))
    for parameter in network.parameters():
        nn.init.constant_(parameter, 1e-9)
    assert receptive_field(network, 1) == 81


def test_windows():
    """A column beside a window's border looks into two of them."""
    assert receptive_field(Windows(), 1, period=8) == 16


def test_global():
    assert receptive_field(Pooled(), 1, limit=256) is None
    assert receptive_field(nn.Conv2d(3, 3, 129, padding=64), 1, rows=1, limit=128) is None


@pytest.mark.parametrize(
    ("name", "config", "scale", "field"),
    [
        # A head, a block of two, one behind the body, one of the upsampler: radius 5, and at SR
        # size a last one, which looks into one LR column more.
        ("edsr", {"channels": 4, "num_blocks": 1}, 2, 12),
        # Four 3×3 at SR size (9 columns) on bicubic enlargement, in which an LR column reaches
        # over 8 SR columns: 16 / 2.
        ("vdsr", {"channels": 4, "num_layers": 4}, 2, 8),
        ("hspan-light", {"channels": 4, "num_blocks": 2}, 2, None),
        # Seven 3×3 at LR size in a row: head, two blocks, one behind them, the tail.
        ("hspan-light", {"channels": 4, "num_blocks": 2, "attention_after": ()}, 2, 15),
    ],
)
def test_networks(name, config, scale, field):
    network = create_model(name, scale=scale, **config).eval()
    assert receptive_field(network, scale, limit=128) == field

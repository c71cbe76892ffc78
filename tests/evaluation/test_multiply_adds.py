"""Multiply-adds of single operators by hand, and that counting changes nothing."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hspan import HSPA, NLA, UsageError, create_model
from hspan.evaluation import count_multiply_adds, lr_size
from hspan.modules import weigh

H, W = 6, 7
N = H * W


class Products(nn.Module):
    """A linear layer over channels, and the dense attention of its result with itself."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 5)

    def forward(self, x):
        tokens = self.linear(x.flatten(2).transpose(1, 2))
        return weigh(tokens @ tokens.transpose(1, 2), "soft-threshold") @ tokens


class Resized(nn.Module):
    def forward(self, x):
        return F.interpolate(x.relu() + 1, scale_factor=2, mode="bicubic").softmax(1)


@pytest.mark.parametrize(
    ("model", "convolutions", "products"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), N * 3 * 8 * 9, 0),
        (nn.Conv2d(3, 8, 3), (H - 2) * (W - 2) * 3 * 8 * 9, 0),
        (nn.Conv2d(3, 8, 1, stride=2), 3 * 4 * 3 * 8, 0),
        (nn.Conv2d(3, 6, (3, 1), groups=3), (H - 2) * W * 6 * 3, 0),
        # Every input position meets the whole kernel once, wherever its products go.
        (nn.ConvTranspose2d(3, 4, 9, stride=2, padding=4), N * 3 * 4 * 81, 0),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU(), nn.Conv2d(4, 2, 1)), N * (12 + 8), 0),
        (Products(), 0, N * 3 * 5 + 2 * N * N * 5),
        (Resized(), 0, 0),
    ],
)
def test_operators(model, convolutions, products):
    counted = count_multiply_adds(model, H, W)
    assert (counted.convolutions, counted.products, counted.attention) == (
        convolutions,
        products,
        0,
    )
    assert counted.total == convolutions + products


@pytest.mark.parametrize("topk", [None, 5])
def test_attention_counts_as_dense(topk):
    """N·M·(C + D) besides three embeddings, whatever is truncated or never computed."""
    counted = count_multiply_adds(HSPA(3, reduction=3, topk=topk), H, W)
    assert counted.attention == N * N * (1 + 3)
    assert counted.convolutions == N * (3 + 3 + 9)


def test_attention_over_patches():
    counted = count_multiply_adds(HSPA(3, reduction=3, patch=2), H, W)
    tokens = 3 * 4
    assert counted.attention == tokens**2 * 4 * (1 + 3)


def test_softmax_costs_the_same():
    counted = count_multiply_adds(NLA(3, reduction=3), H, W)
    assert counted.attention + counted.products == N * N * (1 + 3)


def test_published_counts():
    """The literature's numbers for 1280×720, which many papers print: 316.3 G and 612.6 G."""
    with torch.device("meta"):
        edsr, vdsr = create_model("edsr-baseline", scale=2), create_model("vdsr", scale=2)
    assert count_multiply_adds(edsr, *lr_size(2)).total == pytest.approx(316.3e9, rel=1e-3)
    assert count_multiply_adds(vdsr, *lr_size(2)).total == pytest.approx(612.6e9, rel=1e-3)


@pytest.mark.parametrize(("scale", "size"), [(2, (360, 640)), (3, (240, 427)), (4, (180, 320))])
def test_lr_size(scale, size):
    assert lr_size(scale) == size


def test_the_network_stays_what_it_is():
    torch.manual_seed(0)
    network = create_model("hspan-light", scale=2, channels=8, num_blocks=1)
    network.conv.eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    count_multiply_adds(network, 100_000, 100_000)  # nothing of this size is ever held
    assert network.training
    assert not network.conv.training
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_network_that_needs_values():
    class Needy(nn.Module):
        def forward(self, x):
            return x * x.mean().item()

    with pytest.raises(UsageError, match="Needy can't be counted"):
        count_multiply_adds(Needy(), 8, 8)

"""Soft thresholding in place of softmax, and back."""

import copy

import pytest
import torch
from torch import nn

from hspan import NLA, UsageError, create_model, replace_softmax, restore_softmax
from hspan.modules import attend, weigh
from hspan.ops import hspa_attention


class Own(nn.Module):
    """Somebody's attention, which declares its weighting."""

    applications = 2

    def __init__(self, weighting="softmax"):
        super().__init__()
        self.weighting = weighting

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return attend(tokens, tokens, tokens, self.weighting).transpose(1, 2).reshape(x.shape)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create_model("hspan", scale=2, channels=8, num_modules=3, attention="nla").eval()


@pytest.fixture
def x():
    return torch.rand(1, 3, 8, 9, generator=torch.Generator().manual_seed(1))


def test_nla_becomes_what_hspa_computes(x):
    torch.manual_seed(0)
    block, features = NLA(3, residual_scale=1.0), 3 * x
    replace_softmax(nn.Sequential(block))
    query, key, value = block.tokens(features)
    mixed = hspa_attention(query, key, value).transpose(1, 2).reshape(features.shape)
    torch.testing.assert_close(block(features), features + mixed)


def test_there_and_back(network, x):
    softmax, keys = network(x), list(network.state_dict())
    checkpoint = copy.deepcopy(network.state_dict())
    report = replace_softmax(network)
    sparse = network(x)
    assert not torch.equal(sparse, softmax)
    assert list(network.state_dict()) == keys
    assert report.parameters == sum(p.numel() for p in network.parameters())
    network.load_state_dict(checkpoint)
    assert torch.equal(network(x), sparse)
    assert [m.path for m in restore_softmax(network).modules] == [m.path for m in report.modules]
    assert torch.equal(network(x), softmax)
    assert restore_softmax(network).modules == ()


def test_report(network):
    report = replace_softmax(network)
    assert (report.network, report.weighting, report.applications) == ("HSPAN", "soft-threshold", 3)
    lines = str(report).splitlines()
    assert lines[0] == (
        "HSPAN: soft thresholding in place of softmax in 3 attention modules, "
        f"{report.parameters:,} trainable parameters as before"
    )
    assert lines[1:] == [f"  body.{i}.attention  NLA" for i in range(3)]
    assert replace_softmax(network).modules == ()  # nothing left to do
    assert str(restore_softmax(network)).startswith("HSPAN: softmax in place of soft thresholding")


def test_modules_that_are_applied_again_and_again(x):
    network = nn.Sequential(Own(), nn.ReLU())
    report = replace_softmax(network)
    assert report.applications == 2
    assert "in 1 attention module (2 applications)" in str(report)
    assert "0  Own, 2 times" in str(report)
    tokens = x.flatten(2).transpose(1, 2)
    expected = weigh(tokens @ tokens.transpose(1, 2), "soft-threshold") @ tokens
    torch.testing.assert_close(network(x), expected.transpose(1, 2).reshape(x.shape))


def test_only_some(network):
    report = replace_softmax(network, ["body.0.*", "body.2.attention"])
    assert [m.path for m in report.modules] == ["body.0.attention", "body.2.attention"]
    assert network.body[1].attention.weighting == "softmax"


def test_soft_thresholding_by_design_is_not_touched():
    network = nn.Sequential(Own("soft-threshold"), Own())
    assert [m.path for m in replace_softmax(network).modules] == ["1"]
    restore_softmax(network)
    assert [m.weighting for m in network] == ["soft-threshold", "softmax"]


def test_copies_can_be_restored(network, x):
    softmax = network(x)
    replace_softmax(network)
    twin = copy.deepcopy(network)
    restore_softmax(twin)
    assert torch.equal(twin(x), softmax)
    assert not torch.equal(network(x), softmax)


def test_nothing_to_replace(network):
    with pytest.raises(UsageError, match="no module of ReLU declares"):
        replace_softmax(nn.ReLU())
    with pytest.raises(UsageError, match="conv declares no attention weighting"):
        replace_softmax(network, "conv")
    assert network.body[0].attention.weighting == "softmax"

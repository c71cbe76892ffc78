"""Patterns of submodules."""

import pytest
from torch import nn

from hspan import UsageError
from hspan.models.surgery._paths import match_modules


@pytest.fixture
def network():
    blocks = [
        nn.Sequential(nn.ModuleDict({"conv": nn.Conv2d(1, 1, 1), "relu": nn.ReLU()}))
        for _ in range(3)
    ]
    return nn.ModuleDict({"head": nn.Conv2d(3, 1, 1), "body": nn.ModuleList(blocks)})


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("head", ["head"]),
        ("body.*", ["body.0", "body.1", "body.2"]),
        ("body.[02]", ["body.0", "body.2"]),
        ("body.1.**.conv", ["body.1.0.conv"]),
        ("**.conv", ["body.0.0.conv", "body.1.0.conv", "body.2.0.conv"]),
        ("*", ["head", "body"]),
        (["body.2", "head", "body.?"], ["head", "body.0", "body.1", "body.2"]),
    ],
)
def test_patterns(network, where, found):
    modules = match_modules(network, where)
    assert list(modules) == found
    assert all(modules[path] is network.get_submodule(path) for path in found)


def test_everything_below_but_not_the_network_itself(network):
    assert list(match_modules(network, "**")) == [n for n, _ in network.named_modules() if n]


@pytest.mark.parametrize(
    ("where", "message"),
    [("haed", "did you mean head"), ("body.7", "body.0"), ("zzzz", "it has head, body")],
)
def test_no_such_module(network, where, message):
    with pytest.raises(UsageError, match=message):
        match_modules(network, ["head", where])

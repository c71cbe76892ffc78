"""Softmax and soft thresholding under one name, on tiles and on whole images."""

import pytest
import torch
from torch import nn

from hspan import UsageError
from hspan.modules.weighting import (
    WEIGHTINGS,
    ReplaceableWeighting,
    applications,
    attend,
    weigh,
)
from hspan.ops import soft_threshold


class Shared(nn.Module):
    weighting = "softmax"
    applications = 3


def draw(n=7, m=9, c=5, d=4):
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, n, c), (2, m, c), (2, m, d))
    return [torch.randn(s, generator=generator).requires_grad_() for s in shapes]


def test_what_declares_a_weighting():
    assert isinstance(Shared(), ReplaceableWeighting)
    assert not isinstance(nn.ReLU(), ReplaceableWeighting)
    assert applications(Shared()) == 3
    assert applications(nn.ReLU()) == 1


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_weights(dim):
    scores = draw()[0]
    assert torch.equal(weigh(scores, "softmax", dim), scores.softmax(dim))
    assert torch.equal(weigh(scores, "soft-threshold", dim), soft_threshold(scores, dim))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("channels", [(5, 4), (4, 5), (5, 5)])
def test_whole_attention_is_that_of_the_dense_weights(weighting, channels):
    c, d = channels
    query, key, value = draw(c=c, d=d)
    dense = weigh(query @ key.transpose(1, 2), weighting) @ value
    result = attend(query, key, value, weighting)
    torch.testing.assert_close(result, dense)
    assert result.shape == dense.shape
    for a, b in zip(
        torch.autograd.grad(result.square().sum(), (query, key, value)),
        torch.autograd.grad(dense.square().sum(), (query, key, value)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_unknown_weighting():
    with pytest.raises(UsageError, match="softmax or soft-threshold"):
        weigh(torch.zeros(2, 2), "sigmoid")
    with pytest.raises(UsageError, match="softmax or soft-threshold"):
        attend(*draw(), "sigmoid")

"""Attention within buckets: what is random, what is not, and what its limits are."""

import pytest
import torch
from torch.nn import functional as F

from hspan import UsageError
from hspan.modules.bucket_attention import BucketAttention
from hspan.modules.weighting import weigh


def block(**options):
    torch.manual_seed(0)
    return BucketAttention(8, **{"chunk": 12, "rounds": 3, **options}).eval()


def features(height=7, width=9):
    return torch.randn(2, 8, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("weighting", ["softmax", "soft-threshold"])
def test_a_single_chunk_looks_at_everything(weighting):
    """Then the hash decides nothing: each round is the whole attention, every key three times."""
    attention = block(chunk=63, residual_scale=1.0)
    attention.weighting = weighting
    x = features()
    match, value = attention.match(x).flatten(2), attention.value(x).flatten(2)
    scores = match.transpose(1, 2) @ F.normalize(match, dim=1)
    weights = weigh(torch.cat([scores] * 3, dim=2), weighting).unflatten(2, (3, -1)).sum(dim=2)
    expected = x + (value @ weights.transpose(1, 2)).view_as(x)
    torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-5)


def test_eval_is_the_same_at_every_call_and_training_is_not():
    attention, x = block(residual_scale=1.0), features()
    first = attention(x)
    torch.rand(3)
    assert torch.equal(attention(x), first)
    assert not torch.equal(block(residual_scale=1.0, seed=1)(x), first)
    attention.train()
    assert not torch.equal(attention(x), attention(x))


def test_soft_threshold_weighs_within_chunks_and_goes_back():
    attention, x = block(), features()
    before = attention(x)
    attention.weighting = "soft-threshold"
    assert not torch.allclose(attention(x), before)
    attention.weighting = "softmax"
    assert torch.equal(attention(x), before)


def test_gradients_reach_the_features():
    attention, x = block(), features().requires_grad_()
    attention(x).square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in attention.parameters())


def test_too_few_features():
    with pytest.raises(UsageError, match="12 needs as many, got 10"):
        block()(features(2, 5))


@pytest.mark.parametrize("options", [{"reduction": 9}, {"chunk": 0}, {"rounds": 0}])
def test_impossible_settings(options):
    with pytest.raises(UsageError):
        block(**options)

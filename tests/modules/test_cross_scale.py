"""Cross-scale attention against patches that are cut out and laid out again."""

import pytest
import torch
from torch.nn import functional as F

from hspan import UsageError
from hspan.modules import cross_scale
from hspan.modules.cross_scale import CrossScaleAttention
from hspan.modules.weighting import WEIGHTINGS, weigh


def block(factor, weighting="softmax"):
    torch.manual_seed(0)
    module = CrossScaleAttention(4, factor)
    module.weighting = weighting
    return module


def features(height=12, width=6):
    return torch.randn(2, 4, height, width, generator=torch.Generator().manual_seed(1))


def with_patches(module, x):
    s = module.factor
    smaller = F.interpolate(x, scale_factor=1 / s, mode="bilinear")
    query = F.unfold(module.query(x), 3, padding=1)
    key = F.normalize(F.unfold(module.key(smaller), 3, padding=1), dim=1, eps=1e-4)
    value = F.unfold(module.value(x), 3 * s, padding=s, stride=s)
    weights = weigh(10 * query.transpose(1, 2) @ key, module.weighting)
    size = [s * side for side in x.shape[2:]]
    return F.fold(value @ weights.transpose(1, 2), size, 3 * s, padding=s, stride=s) / 6


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("factor", [2, 3])
def test_against_patches(factor, weighting):
    module, x = block(factor, weighting), features()
    torch.testing.assert_close(module(x), with_patches(module, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("rows", [1, 5])
def test_strips(monkeypatch, weighting, rows):
    """Strips give what the whole gives, and its gradient."""
    module, x = block(2, weighting), features()

    def gradients():
        inputs = (x.clone().requires_grad_(), *module.parameters())
        return torch.autograd.grad(module(inputs[0]).square().sum(), inputs)

    whole = gradients()
    pairs_of_a_row = 2 * 8 * (8 * 5)  # of two images, borders included
    monkeypatch.setattr(cross_scale, "_SCORES", (rows + 2) * pairs_of_a_row)
    for a, b in zip(gradients(), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_memory(monkeypatch, largest_tensor):
    """No more pairs at once than were asked for, plus a strip's border."""
    module, x = block(2), features(32, 32)
    with torch.no_grad():
        assert largest_tensor(lambda: module(x)) > 2 * 1024 * 256
        monkeypatch.setattr(cross_scale, "_SCORES", 2 * 4 * 34 * 18 * 18)
        assert largest_tensor(lambda: module(x)) <= 2 * 6 * 34 * 18 * 18


def test_weighting_goes_back():
    module, x = block(2), features()
    before = module(x)
    module.weighting = "soft-threshold"
    assert not torch.allclose(module(x), before)
    module.weighting = "softmax"
    assert torch.equal(module(x), before)


def test_sizes_that_do_not_fit():
    with pytest.raises(UsageError, match="multiples of 2, got 12×5"):
        block(2)(features(12, 5))
    with pytest.raises(UsageError, match="reduction"):
        CrossScaleAttention(4, 2, reduction=5)

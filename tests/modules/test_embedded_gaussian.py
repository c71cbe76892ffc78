"""The non-local block in its two forms, against the whole matrix of weights."""

import pytest
import torch
from torch.nn import functional as F

from hspan import UsageError
from hspan.modules import weighting as weighting_module
from hspan.modules.embedded_gaussian import EmbeddedGaussian
from hspan.modules.weighting import WEIGHTINGS, applications, weigh


def features(height=6, width=8):
    return torch.randn(2, 8, height, width, generator=torch.Generator().manual_seed(1))


def block(**options):
    torch.manual_seed(0)
    return EmbeddedGaussian(8, 4, **options)


def dense(module, x, weighting):
    query, key, value = module.query(x), module.key(x), module.value(x)
    if module.pool > 1:
        key, value = F.max_pool2d(key, module.pool), F.max_pool2d(value, module.pool)
    scores = query.flatten(2).transpose(1, 2) @ key.flatten(2)
    weights = weigh(scores, weighting, dim=1 if module.weigh_queries else 2)
    mixed = value.flatten(2) @ weights.transpose(1, 2)
    return x + module.project(mixed.unflatten(2, x.shape[2:]))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("options", [{}, {"pool": 2}, {"weigh_queries": True}])
def test_against_the_whole_matrix(weighting, options):
    module = block(**options)
    module.weighting = weighting
    x = features()
    torch.testing.assert_close(module(x), dense(module, x, weighting), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_queries_in_parts(monkeypatch, largest_tensor, weighting):
    """Many parts give what one gives, and their gradient, without the whole matrix."""
    module, x = block(weigh_queries=True), features(16, 16)
    module.weighting = weighting

    def gradients():
        inputs = (x.clone().requires_grad_(), *module.parameters())
        return torch.autograd.grad(module(inputs[0]).square().sum(), inputs[:1] + inputs[1:])

    whole = gradients()
    assert largest_tensor(gradients) >= 2 * 256 * 256
    monkeypatch.setattr(weighting_module, "_SCORES", 2 * 256 * 20)
    parts = gradients()
    assert largest_tensor(gradients) <= 2 * 256 * 20
    for a, b in zip(parts, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def test_settings():
    assert applications(block(applications=2)) == 2
    with pytest.raises(UsageError):
        block(pool=0)
    with pytest.raises(UsageError):
        EmbeddedGaussian(8, 0)

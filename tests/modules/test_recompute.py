"""Results that are computed again for the gradient."""

import torch

from hspan.modules.recompute import recomputed


def test_same_result_and_gradient_from_two_calls():
    calls = []

    def function(x, y):
        calls.append(torch.is_grad_enabled())
        return (x * y).exp()

    x, y = (torch.rand(5, requires_grad=True) for _ in range(2))
    out = recomputed(function, x, y)
    assert len(calls) == 1
    for a, b in zip(
        torch.autograd.grad(out.sum(), (x, y)),
        torch.autograd.grad((x * y).exp().sum(), (x, y)),
        strict=True,
    ):
        assert torch.equal(a, b)
    assert len(calls) == 2


def test_without_gradients_it_is_just_a_call():
    with torch.no_grad():
        assert torch.equal(recomputed(torch.exp, torch.zeros(3)), torch.ones(3))

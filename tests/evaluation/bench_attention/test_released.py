"""The released algorithm is Eq. (8), so a comparison with it is one of speed alone."""

import pytest
import torch

from hspan import hspa_attention
from hspan.evaluation.bench_attention import released_attention


def tensors(tokens, spread, seed=0):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(2, tokens, 5, dtype=torch.float64, generator=generator) * spread
    key = torch.randn(2, tokens + 3, 5, dtype=torch.float64, generator=generator)
    value = torch.randn(2, tokens + 3, 6, dtype=torch.float64, generator=generator)
    return [t.requires_grad_() for t in (query, key, value)]


# Spread 1e-3 puts nearly all keys into the support: more than 4, and than 8, and than 16 ...
@pytest.mark.parametrize("spread", [1e-3, 0.1, 3.0])
@pytest.mark.parametrize("topk", [4, 128, 1000])
def test_equals_the_reference_with_its_gradients(spread, topk):
    inputs = tensors(70, spread)
    ours = released_attention(*inputs, topk=topk)
    truth = hspa_attention(*inputs, backend="reference")
    torch.testing.assert_close(ours, truth, rtol=0, atol=1e-11)
    weight = torch.linspace(-1, 1, ours.numel(), dtype=torch.float64).view_as(ours)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, weight),
        torch.autograd.grad(truth, inputs, weight),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_only_unsolved_rows_are_sorted_again(monkeypatch):
    """One row of equal scores among rows of one large score each."""
    query = torch.eye(9).unsqueeze(0) * 100
    query[0, 3] = 0
    sizes = []
    topk = torch.Tensor.topk

    def record(self, k, *arguments, **options):
        sizes.append((len(self), k))
        return topk(self, k, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "topk", record)
    out = released_attention(query, torch.eye(9).unsqueeze(0), torch.eye(9).unsqueeze(0), topk=2)
    assert sizes == [(9, 2), (1, 4), (1, 8), (1, 9)]
    torch.testing.assert_close(out[0, 3], torch.full((9,), 1 / 9))

"""Attention by random features: its limit, its seed."""

import pytest
import torch
from torch.nn import functional as F

from hspan import UsageError
from hspan.modules import kernel_attention
from hspan.modules.kernel_attention import KernelAttention


def block(seed=0, **options):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(seed)
    return KernelAttention(8, **{"projections": 16, "generator": generator, **options})


def test_many_directions_give_softmax_attention(monkeypatch):
    # At the paper's 6 the estimate's tails are too heavy for any number of directions.
    monkeypatch.setattr(kernel_attention, "_SHARPNESS", 1.0)
    attention = block(projections=20_000, residual_scale=1.0)
    x = torch.randn(1, 8, 5, 6, generator=torch.Generator().manual_seed(1))
    query, key = (F.normalize(e(x).flatten(2), dim=1) for e in (attention.query, attention.key))
    weights = torch.softmax(query.transpose(1, 2) @ key, dim=2)
    expected = x + (attention.value(x).flatten(2) @ weights.transpose(1, 2)).view_as(x)
    assert (attention(x) - expected).abs().max() < 0.05 * expected.std()


def test_directions_are_orthogonal_and_of_normal_length():
    rows = block(projections=3, reduction=2).projection_matrix
    directions = F.normalize(rows, dim=1)
    torch.testing.assert_close(directions @ directions.T, torch.eye(3), rtol=0, atol=1e-5)
    lengths = block(projections=4000, reduction=2).projection_matrix.square().sum(dim=1)
    assert abs(lengths.mean() - 4) < 0.3  # chi-squared of four degrees of freedom


def test_directions_come_from_the_generator():
    stored = block(3).projection_matrix
    assert torch.equal(stored, block(3).projection_matrix)
    assert not torch.equal(stored, block(4).projection_matrix)
    again = block(4)
    again.redraw(torch.Generator().manual_seed(3))
    assert torch.equal(again.projection_matrix, stored)
    assert "projection_matrix" in again.state_dict()


@pytest.mark.parametrize("options", [{"reduction": 9}, {"projections": 0}])
def test_impossible_settings(options):
    with pytest.raises(UsageError):
        block(**options)

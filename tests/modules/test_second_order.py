"""Channel attention by covariance."""

import torch

from hspan.modules import second_order
from hspan.modules.second_order import SecondOrderAttention


def test_square_root():
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(3, 6, 40, generator=generator, dtype=torch.float64)
    matrix = factor @ factor.transpose(1, 2)
    values, vectors = torch.linalg.eigh(matrix)
    exact = vectors @ torch.diag_embed(values.sqrt()) @ vectors.transpose(1, 2)
    root = second_order._square_root(matrix)
    assert (root - exact).norm() < 0.02 * exact.norm()  # five steps from far away


def test_covariance_of_the_middle(monkeypatch):
    x = torch.randn(2, 4, 9, 12, generator=torch.Generator().manual_seed(0))
    whole = torch.stack([torch.cov(image.flatten(1), correction=0) for image in x])
    torch.testing.assert_close(second_order._covariance(x), whole)
    monkeypatch.setattr(second_order, "_LARGEST", 6)
    middle = second_order._covariance(x[:, :, 1:7, 3:9].contiguous())
    assert torch.equal(second_order._covariance(x), middle)


def test_constant_features_give_numbers():
    attention = SecondOrderAttention(4, 2)
    x = torch.full((1, 4, 3, 3), 2.0, requires_grad=True)
    out = attention(x)
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()

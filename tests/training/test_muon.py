"""Muon's step against the same step written out with a singular value decomposition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hspan.training import Muon
from hspan.training._muon import orthogonalised


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 3),
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    exponent=st.integers(-6, 6),
    seed=st.integers(0, 99),
)
def test_directions_are_kept_and_lengths_alike(count, rows, columns, exponent, seed):
    generator = torch.Generator().manual_seed(seed)
    matrices = torch.randn(count, rows, columns, generator=generator, dtype=torch.float64)
    out = orthogonalised(matrices * 10.0**exponent)
    u, values, v = torch.linalg.svd(matrices, full_matrices=False)
    along = torch.diagonal(u.mT @ out @ v.mT, dim1=1, dim2=2)
    torch.testing.assert_close((u * along.unsqueeze(1)) @ v, out)  # the same singular vectors
    assert along.max() < 1.25
    # Five iterations reach directions above a hundredth of the largest.
    assert along[values > 0.03 * values[:, :1]].min() > 0.5


def test_zeros_stay_zeros():
    assert not orthogonalised(torch.zeros(2, 3, 4)).any()


def test_directions_that_died_away_cost_nothing():
    """Products of tiny numbers would be denormal, which processors are slow at."""
    matrices = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(0))
    alive = orthogonalised(matrices[:, :3])
    matrices[:, 3] = 1e-30
    out = orthogonalised(matrices)
    torch.testing.assert_close(out[:, :3], alive)
    assert not out[:, 3].any()


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3), nn.PReLU(), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 3, 3)
    ).double()


def give_gradients(model, step):
    generator = torch.Generator().manual_seed(step)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)


def test_outer_weights_and_vectors_take_adam_s_steps():
    ours, theirs = network(), network()
    muon = Muon(ours.named_parameters(), lr=1e-2, matrix_lr=0.1, betas=(0.8, 0.9), eps=1e-3)
    adam = torch.optim.Adam(theirs.parameters(), lr=1e-2, betas=(0.8, 0.9), eps=1e-3)
    for step in range(4):
        for model, optimizer in ((ours, muon), (theirs, adam)):
            give_gradients(model, step)
            optimizer.step()
    inner = {"1.weight", "3.weight"}
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=1e-12, atol=1e-12) == (name not in inner), name


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_inner_weights_move_by_orthogonalised_momentum(layout):
    model = network().to(memory_format=layout)
    optimizer = Muon(model.named_parameters(), lr=1e-2, matrix_lr=0.1, momentum=0.9)
    weight = model[1].weight
    expected, mean = weight.detach().clone(), torch.zeros_like(weight)
    for step in range(3):
        give_gradients(model, step)
        mean = 0.9 * mean + 0.1 * weight.grad
        ahead = 0.9 * mean + 0.1 * weight.grad
        expected -= 0.1 * orthogonalised(ahead.reshape(1, 8, 54)).reshape(expected.shape)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), expected)


def test_tall_matrices_take_longer_steps():
    model = network()
    tall = nn.Linear(4, 16).double()
    model.insert(4, tall)
    optimizer = Muon(model.named_parameters(), lr=1e-2, matrix_lr=0.1)
    before = tall.weight.detach().clone()
    give_gradients(model, 0)
    optimizer.step()
    values = torch.linalg.svdvals(before - tall.weight.detach())
    assert 0.2 * 0.6 < values.min() <= values.max() < 0.2 * 1.25  # 0.1 * sqrt(16 / 4)


def test_parameters_without_gradient_stay():
    model = network()
    optimizer = Muon(model.named_parameters(), lr=1e-2, matrix_lr=0.1)
    before = {k: t.clone() for k, t in model.state_dict().items()}
    optimizer.zero_grad()
    optimizer.step()
    assert all(torch.equal(t, before[k]) for k, t in model.state_dict().items())


def test_continues_from_its_state(tmp_path):
    straight, resumed = network(), network()
    first = Muon(straight.named_parameters(), lr=1e-2, matrix_lr=0.1)
    for step in range(2):
        give_gradients(straight, step)
        first.step()
    torch.save((straight.state_dict(), first.state_dict()), tmp_path / "state.pt")
    weights, state = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed.load_state_dict(weights)
    second = Muon(resumed.named_parameters(), lr=1e-2, matrix_lr=0.1)
    second.load_state_dict(state)
    for model, optimizer in ((straight, first), (resumed, second)):
        give_gradients(model, 2)
        optimizer.step()
    for p, q in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)

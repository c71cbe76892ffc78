"""Eqs. (9)-(13) and (15)-(19): values, properties, derivatives, awkward input."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from hspan import UsageError, soft_threshold
from hspan.ops.soft_threshold import solve_threshold


def algorithm_1(scores: np.ndarray) -> np.ndarray:
    """The paper's Algorithm 1 as printed: sort, support size, threshold; one row, float64."""
    s = np.sort(scores)[::-1]
    cumulative = np.cumsum(s)
    k = np.arange(1, len(s) + 1)
    size = k[k * s + 1 > cumulative].max()
    kappa = (cumulative[size - 1] - 1) / size
    return np.maximum(scores - kappa, 0)


finite = st.floats(-50, 50, allow_subnormal=False)
rows = hnp.arrays(np.float64, st.integers(1, 40), elements=finite)


@given(rows)
def test_equals_sorting_definition(row):
    ours = soft_threshold(torch.from_numpy(row)).numpy()
    np.testing.assert_allclose(ours, algorithm_1(row), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_equals_sorting_definition_on_long_rows(scale):
    row = np.random.default_rng(0).standard_normal(20_000) * scale
    ours = soft_threshold(torch.from_numpy(row)).numpy()
    np.testing.assert_allclose(ours, algorithm_1(row), rtol=0, atol=1e-12)


def test_hand_computed():
    # s = (1, 0.6, 0, -3): T = 2 since 2·0.6 + 1 > 1.6 but 3·0 + 1 < 1.6; kappa = (1.6 - 1)/2.
    weights = soft_threshold(torch.tensor([1.0, 0.6, 0.0, -3.0]))
    torch.testing.assert_close(weights, torch.tensor([0.7, 0.3, 0.0, 0.0]))


@given(rows)
def test_on_simplex(row):
    weights = soft_threshold(torch.from_numpy(row))
    assert (weights >= 0).all()
    assert abs(weights.sum().item() - 1) < 1e-12


@given(rows, st.floats(-1e3, 1e3))
def test_shift_invariant(row, shift):
    weights = soft_threshold(torch.from_numpy(row))
    torch.testing.assert_close(
        soft_threshold(torch.from_numpy(row) + shift), weights, rtol=0, atol=1e-11
    )


@given(rows, st.randoms(use_true_random=False))
def test_permutation_equivariant(row, random):
    order = torch.tensor(random.sample(range(len(row)), len(row)))
    scores = torch.from_numpy(row)
    torch.testing.assert_close(
        soft_threshold(scores[order]), soft_threshold(scores)[order], rtol=0, atol=1e-12
    )


@given(rows)
def test_preserves_order(row):
    weights = soft_threshold(torch.from_numpy(row))[np.argsort(row)]
    assert (weights.diff() >= 0).all()


@given(rows)
def test_projection_is_idempotent(row):
    weights = soft_threshold(torch.from_numpy(row))
    torch.testing.assert_close(soft_threshold(weights), weights, rtol=0, atol=1e-12)


@given(rows)
@settings(max_examples=50)
def test_is_the_nearest_point_of_the_simplex(row):
    """Eq. (13): no random point of the simplex lies nearer to the scores."""
    weights = soft_threshold(torch.from_numpy(row)).numpy()
    others = np.random.default_rng(1).dirichlet(np.ones(len(row)), size=50)
    nearest = np.linalg.norm(others - row, axis=1).min()
    assert np.linalg.norm(weights - row) <= nearest + 1e-9


@given(rows, st.integers(1, 50))
def test_topk_is_exact_on_the_k_largest(row, k):
    weights = soft_threshold(torch.from_numpy(row), topk=k).numpy()
    kept = np.sort(row)[::-1][:k]
    np.testing.assert_allclose(np.sort(weights)[::-1][:k], algorithm_1(kept), rtol=0, atol=1e-12)
    assert np.count_nonzero(weights) <= k


def test_support_larger_than_topk():
    scores = torch.zeros(3, 100, dtype=torch.float64)  # exact: 100 weights of 1/100
    weights = soft_threshold(scores, topk=8)
    assert (weights > 0).sum(-1).tolist() == [8, 8, 8]
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(soft_threshold(scores, topk=1000), soft_threshold(scores))


def test_ties_share_equally():
    weights = soft_threshold(torch.tensor([2.0, 2.0, 2.0, 0.0]))
    torch.testing.assert_close(weights, torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0]))


@pytest.mark.parametrize("topk", [None, 1, 5])
def test_single_element(topk):
    assert soft_threshold(torch.tensor([[-7.0]]), topk=topk).item() == 1


@pytest.mark.parametrize("topk", [None, 2])
def test_minus_infinity_gets_no_weight(topk):
    weights = soft_threshold(torch.tensor([0.5, -torch.inf, 0.2, -torch.inf]), topk=topk)
    torch.testing.assert_close(weights, torch.tensor([0.65, 0.0, 0.35, 0.0]))


@pytest.mark.parametrize("topk", [None, 2])
@pytest.mark.parametrize(
    "bad", [[torch.nan, 0.0, 1.0], [-torch.inf] * 3, [torch.inf, 0.0, 1.0]], ids=str
)
def test_undefined_rows_are_nan_alone(bad, topk):
    weights = soft_threshold(torch.tensor([[1.0, 0.0, 0.5], bad]), topk=topk)
    assert weights[1].isnan().all()
    assert abs(weights[0].sum().item() - 1) < 1e-6


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("topk", [None, 3])
def test_any_dimension(dim, topk):
    scores = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(0))
    weights = soft_threshold(scores, dim=dim, topk=topk)
    expected = soft_threshold(scores.movedim(dim, -1).contiguous(), topk=topk).movedim(-1, dim)
    torch.testing.assert_close(weights, expected)


def test_non_contiguous():
    scores = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)).t()[::2]
    torch.testing.assert_close(soft_threshold(scores), soft_threshold(scores.contiguous()))


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-5), (torch.float16, 1e-2), (torch.bfloat16, 1e-2)],
)
def test_low_precision_rows_sum_to_one(dtype, tolerance):
    scores = torch.randn(64, 3000, generator=torch.Generator().manual_seed(0)).to(dtype) * 3
    weights = soft_threshold(scores)
    assert weights.dtype == dtype
    assert (weights.double().sum(-1) - 1).abs().max() < tolerance


def test_large_scores_keep_their_digits():
    scores = torch.tensor([1e4, 1e4 - 0.25, 0.0])  # float32 holds these exactly
    torch.testing.assert_close(soft_threshold(scores), torch.tensor([0.625, 0.375, 0.0]))


@pytest.mark.parametrize("topk", [None, 4])
@pytest.mark.parametrize("dim", [0, -1])
def test_gradients(dim, topk):
    scores = torch.randn(
        6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    ).requires_grad_()
    assert gradcheck(lambda s: soft_threshold(s, dim, topk), scores)
    assert gradgradcheck(lambda s: soft_threshold(s, dim, topk), scores)


def test_jacobian_is_equation_18():
    scores = torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    c = (soft_threshold(scores) > 0).double()
    assert 1 < c.sum() < 12
    jacobian = torch.autograd.functional.jacobian(soft_threshold, scores)
    torch.testing.assert_close(jacobian, torch.diag(c) - torch.outer(c, c) / c.sum())


def test_newton_stops_at_the_exact_support():
    shifted = torch.tensor([[0.0, -0.1, -0.2, -0.9]])
    # T = 3: (0 - 0.1 - 0.2 - 1)/3; a valid lower bound to start from changes nothing.
    expected = torch.tensor([[-1.3 / 3]])
    torch.testing.assert_close(solve_threshold(shifted), expected)
    torch.testing.assert_close(solve_threshold(shifted, torch.tensor([[-0.5]])), expected)


@pytest.mark.parametrize(
    ("scores", "options", "error"),
    [
        (torch.zeros(3, dtype=torch.int64), {}, UsageError),
        (torch.tensor(1.0), {}, UsageError),
        (torch.zeros(3, 0), {}, UsageError),
        (torch.zeros(3), {"topk": 0}, UsageError),
        (torch.zeros(3), {"dim": 1}, IndexError),
        (torch.zeros(3), {"dim": -2}, IndexError),
    ],
)
def test_wrong_calls(scores, options, error):
    with pytest.raises(error):
        soft_threshold(scores, **options)


def test_no_rows_is_not_an_error():
    assert soft_threshold(torch.zeros(0, 4)).shape == (0, 4)


@pytest.mark.parametrize("topk", [None, 3])
@pytest.mark.parametrize("dim", [0, 1])
def test_operator_is_well_formed(dim, topk):
    scores = torch.randn(4, 5, requires_grad=True)
    torch.library.opcheck(torch.ops.hspan.soft_threshold.default, (scores, dim, topk))
    weights = soft_threshold(scores, dim, topk)
    torch.library.opcheck(
        torch.ops.hspan.soft_threshold_backward.default,
        (torch.randn(4, 5, requires_grad=True), weights.detach(), dim),
    )

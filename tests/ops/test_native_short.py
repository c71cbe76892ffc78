"""Attention over short sequences in bf16 on AMX: products of whole matrices, forward and backward.

Weights and gradients of scores are rounded to bf16 before they are multiplied, and so are results;
sums are in float32. The truth is Eq. (8) and Eq. (19) in float64; how far an element may be from it
follows from that. What this way can't do has to come from the usual one, bit by bit.
"""

import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hspan import soft_threshold
from hspan.modules import HSPA
from hspan.ops import _library, _short

if "amx" not in _library.instruction_sets():
    if os.environ.get("HSPAN_REQUIRE_NATIVE") == "1" and not _library.instruction_sets():
        raise RuntimeError(_library.why_missing())
    pytest.skip("needs AMX, or its emulation", allow_module_level=True)

BF16 = torch.bfloat16
HALF = 2.0**-8  # what rounding to bf16 changes at most

Inputs = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(params=[1, 2], ids=["amx-1", "amx-2"])
def amx(request, run_on):
    return run_on("amx", request.param)


def draw(batch, n, m, c, d, logits=1.0, seed=0) -> Inputs:
    """Features whose scores have a standard deviation of about ``logits``."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, n, c, generator=generator) * (logits / c**0.5)
    key = torch.randn(batch, m, c, generator=generator)
    value = torch.randn(batch, m, d, generator=generator)
    return query.to(BF16), key.to(BF16), value.to(BF16)


def gradient_of(value: Tensor, queries: int) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.randn(value.shape[0], queries, value.shape[2], generator=generator).to(BF16)


def run(tensors: Inputs, grad: Tensor) -> list[Tensor]:
    """Output, limits, and the gradients of all inputs, whatever way is taken."""
    out, limits, support = torch.ops.hspan.attention.default(*tensors, None, 0, True, "native")
    gradients = torch.ops.hspan.attention_backward.default(
        grad, *tensors, limits, support, None, 0, "native"
    )
    return [out, limits, *gradients]


def usual(tensors: Inputs, grad: Tensor, monkeypatch) -> list[Tensor]:
    with monkeypatch.context() as patch:
        patch.setattr(_short, "MOST", 0)
        return run(tensors, grad)


def within(found: Tensor, truth: Tensor, error: Tensor) -> None:
    """Off by no more than the error and one rounding."""
    allowed = 1.01 * (error + HALF * truth.abs()) + 1e-6 * truth.abs().max() + 1e-30
    assert ((found.double() - truth).abs() <= allowed).all()


def check(tensors: Inputs) -> None:
    assert _short.takes(*tensors, None)
    forward = _short.forward(*tensors)
    assert forward is not None
    out, limits = forward
    query, key, value = (t.double() for t in tensors)
    grad = gradient_of(tensors[2], query.shape[1])
    scores = query @ key.mT
    weights = soft_threshold(scores)
    # Scores are sums in float32: weights are off by that, whatever their own size.
    doubt = 1e-6 * query.norm(dim=-1, keepdim=True) * key.norm(dim=-1).amax(-1)[:, None, None]
    member = ((weights + doubt) > 0) & (scores > scores.amax(-1, keepdim=True) - 1 - doubt)
    off = HALF * weights + member * doubt
    within(out, weights @ value, off @ value.abs())
    top = scores.amax(-1)
    torch.testing.assert_close(limits[..., 0].double(), top, rtol=1e-5, atol=1e-5)
    kappa = torch.where(weights > 0, scores - weights, -torch.inf).amax(-1) - top
    torch.testing.assert_close(limits[..., 1].double(), kappa, rtol=1e-4, atol=1e-5)

    gradients = _short.backward(grad, *tensors, limits)
    assert gradients is not None
    inside = (weights > 0).double()
    d_weights = inside * (grad.double() @ value.mT)
    slopes = d_weights - inside * (d_weights.sum(-1, keepdim=True) / inside.sum(-1, keepdim=True))
    size = HALF * slopes.abs() + inside * 1e-5 * (grad.double().abs() @ value.abs().mT)
    within(gradients[0], slopes @ key, size @ key.abs())
    within(gradients[1], slopes.mT @ query, size.mT @ query.abs())
    within(gradients[2], weights.mT @ grad.double(), off.mT @ grad.double().abs())


SHAPES = {
    "one of each": (1, 1, 1, 1, 1),
    "one query": (2, 1, 77, 5, 4),
    "one key": (2, 77, 1, 5, 4),
    "one channel": (1, 131, 257, 1, 1),
    "sizes that nothing divides": (3, 63, 101, 33, 47),
    "sizes that need no filling up": (2, 64, 96, 32, 64),
    "a network's patches": (3, 144, 144, 480, 960),
    "more keys than queries": (2, 5, 301, 24, 48),
}


@pytest.mark.parametrize("logits", [0.01, 0.2, 2.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(amx, shape, logits):
    check(draw(*SHAPES[shape], logits))


@given(
    shape=st.tuples(
        st.integers(1, 3),
        st.integers(1, 100),
        st.integers(1, 150),
        st.integers(1, 130),
        st.integers(1, 130),
    ),
    logits=st.sampled_from([0.003, 0.05, 0.5, 3.0]),
    seed=st.integers(0, 2**31),
)
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_drawn_shapes(amx, shape, logits, seed):
    check(draw(*shape, logits, seed))


def test_ties_and_zero_queries(amx):
    query, key, value = draw(2, 40, 70, 8, 12, 0.5)
    key[:, 10:40] = key[:, :1]
    query[:, 5:9] = 0
    check((query, key, value))
    out, limits = _short.forward(query, key, value) or (query, query)
    within(out[:, 5:9], value.double().mean(1, keepdim=True).expand(-1, 4, -1), torch.tensor(HALF))
    torch.testing.assert_close(limits[:, 5:9, 1], torch.full((2, 4), -1 / 70), rtol=1e-5, atol=0)


def test_layouts(amx):
    query, key, value = draw(2, 40, 70, 24, 48)
    grad = gradient_of(value, 40)
    plain = run((query, key, value), grad)

    def turned(x):
        return x.mT.contiguous().mT

    other = run((turned(query), turned(key), turned(value)), turned(grad))
    assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))


def test_same_bits_for_any_number_of_threads(run_on):
    tensors, results = draw(5, 100, 120, 24, 48), []
    for threads in (1, 2):
        run_on("amx", threads)
        results.append(run(tensors, gradient_of(tensors[2], 100)))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("which", ["query", "key", "value"])
def test_what_is_not_finite_goes_the_usual_way(amx, which, bad, monkeypatch):
    tensors = draw(2, 40, 70, 24, 48)
    tensors[["query", "key", "value"].index(which)][1, 7, 3] = bad
    assert _short.forward(*tensors) is None
    grad = gradient_of(tensors[2], 40)
    for ours, theirs in zip(run(tensors, grad), usual(tensors, grad, monkeypatch), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_gradient_that_is_not_finite_goes_the_usual_way(amx):
    tensors = draw(2, 40, 70, 24, 48)
    grad = gradient_of(tensors[2], 40)
    clean = run(tensors, grad)
    grad[1, 7, 3] = torch.nan
    found = run(tensors, grad)
    assert _short.backward(grad, *tensors, clean[1]) is None
    others = torch.arange(40) != 7
    assert found[2][1, 7].isnan().all()
    ours, theirs = found[2][:, others], clean[2][:, others]
    assert (ours - theirs).norm() <= HALF * theirs.norm()


@pytest.mark.parametrize("scale", [1e4, 1e18])
def test_scores_whose_rounding_shows_go_the_usual_way(amx, scale, monkeypatch):
    query, key, value = draw(2, 40, 70, 24, 48)
    tensors = (query * scale, key, value)
    assert _short.takes(*tensors, None)
    assert _short.forward(*tensors) is None
    grad = gradient_of(value, 40)
    theirs = usual(tensors, grad, monkeypatch)
    assert torch.equal(run(tensors, grad)[0], theirs[0])


def test_backward_in_float32_finds_the_support_again(amx, monkeypatch):
    """Autocast may end between the passes."""
    tensors = draw(2, 40, 70, 24, 48)
    grad = gradient_of(tensors[2], 40).float()
    ours, theirs = run(tensors, grad), usual(tensors, grad, monkeypatch)
    for a, b in zip(ours[2:], theirs[2:], strict=True):
        torch.testing.assert_close(a, b, rtol=2 * HALF, atol=HALF * float(b.abs().max()))


def test_calls_for_the_usual_way(amx):
    query, key, value = draw(1, 40, 70, 24, 48)
    assert _short.takes(query, key, value, None)
    assert not _short.takes(query, key, value, 5)
    assert not _short.takes(query.float(), key.float(), value, None)
    assert not _short.takes(query, key, value.float(), None)
    assert not _short.takes(query, key, value[..., :0], None)
    assert not _short.takes(query[:, :0], key, value, None)
    assert not _short.takes(query.repeat(1, 30, 1), key, value, None)
    assert not _short.takes(query, key.repeat(1, 30, 1), value.repeat(1, 30, 1), None)


def test_other_instruction_sets_go_the_usual_way(monkeypatch):
    monkeypatch.setenv("HSPAN_ISA", _library.instruction_sets()[0])
    assert not _short.takes(*draw(1, 40, 70, 24, 48), None)


def test_training_under_autocast(amx, monkeypatch):
    """A block's gradients are those of the usual way but for roundings."""
    torch.manual_seed(0)
    block = HSPA(24, topk=None, patch=2, residual_scale=1.0)
    x = torch.randn(2, 24, 24, 24)

    def gradients() -> list[Tensor]:
        block.zero_grad()
        with torch.autocast("cpu", BF16):
            block(x).square().mean().backward()
        return [p.grad for p in block.parameters() if p.grad is not None]

    ours = gradients()
    monkeypatch.setattr(_short, "MOST", 0)
    for a, b in zip(ours, gradients(), strict=True):
        assert (a - b).norm() <= 0.02 * b.norm()

"""The compiled kernel where queries look at most keys, in calls that are bf16 throughout.

Where the processor has products of bf16 numbers, all weights are then multiplied by all values as
matrices, the weights rounded to bf16. That moves a result by less than rounding it does; whatever
this way can't do goes the usual one.
"""

import os

import pytest
import torch
from torch import Tensor

from hspan import soft_threshold
from hspan.ops import _library, _native, _short

if not _library.instruction_sets():
    if os.environ.get("HSPAN_REQUIRE_NATIVE") == "1":
        raise RuntimeError(_library.why_missing())
    pytest.skip(_library.why_missing(), allow_module_level=True)

F64, BF16 = torch.float64, torch.bfloat16
SETS = _library.instruction_sets()
HALF = 2.0**-8  # what rounding to bf16 changes at most
NO_SUPPORT = torch.empty(0, dtype=torch.uint8)


@pytest.fixture(autouse=True)
def none_is_short(monkeypatch):
    """Small as these examples are, they stand for long sequences."""
    monkeypatch.setattr(_short, "MOST", 0)


@pytest.fixture(params=[(name, 1) for name in SETS] + [(SETS[-1], 2)], ids=str)
def isa(request, run_on):
    return run_on(*request.param)


def draw(batch, n, m, c, d, logits=0.03, seed=0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries that share most of their keys, as neighbours in an image do."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, n, c, generator=generator)
    query = (query[:, :1] + 0.3 * query) * (logits / c**0.5)
    key = torch.randn(batch, m, c, generator=generator)
    value = torch.randn(batch, m, d, generator=generator)
    return query.to(BF16), key.to(BF16), value.to(BF16)


def forward(tensors, topk=None, width=0) -> tuple[Tensor, Tensor]:
    """Output and limits of a call that keeps no support."""
    return _native.forward(*tensors, topk, width, NO_SUPPORT)


def check(tensors, width=0) -> Tensor:
    query, key, value = (t.double() for t in tensors)
    out, limits = forward(tensors, width=width)
    scores = query @ key.mT
    weights = soft_threshold(scores)
    truth = weights @ value
    # Errors of the weights add up like those of independent numbers.
    size = torch.maximum(truth.norm(), (weights.square() @ value.square()).sqrt().norm())
    assert (out.double() - truth).norm() <= 1.5 * HALF * size
    top = scores.amax(-1)
    torch.testing.assert_close(limits[..., 0].double(), top, rtol=1e-5, atol=1e-5)
    kappa = torch.where(weights > 0, scores - weights, -torch.inf).amax(-1) - top
    torch.testing.assert_close(limits[..., 1].double(), kappa, rtol=1e-4, atol=1e-6)
    return out


@pytest.mark.parametrize("d", [1, 16, 40, 48, 64, 100])
@pytest.mark.parametrize(("n", "m"), [(64, 512), (70, 401), (15, 33), (33, 1000)])
def test_values(isa, n, m, d):
    check(draw(2, n, m, 24, d))


@pytest.mark.parametrize("logits", [0.02, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("c", [3, 32, 100])
def test_any_share_of_the_keys(isa, logits, c):
    check(draw(1, 48, 600, c, 20, logits))


def test_images(isa):
    check(draw(1, 24 * 24, 24 * 24, 24, 48), width=24)


def test_equal_keys(isa):
    query, key, value = draw(1, 40, 300, 8, 12)
    key[:, 40:200] = key[:, :1]
    check((query, key, value))


@pytest.mark.parametrize("name", SETS)
def test_products_of_halves_are_of_matrices(name, run_on):
    """The same bits as with a kept support would mean that none were."""
    run_on(name, 1)
    tensors = draw(1, 64, 512, 24, 48)
    kept, limits, _ = torch.ops.hspan.attention.default(*tensors, None, 0, True, "native")
    out, others = forward(tensors)
    assert torch.equal(out, kept) == (name not in ("avx512_bf16", "amx"))
    torch.testing.assert_close(others, limits, rtol=1e-5, atol=1e-6)


def test_threads_share_the_work(run_on):
    tensors, results = draw(3, 200, 700, 24, 48), []
    for threads in (1, 2):
        run_on(SETS[-1], threads)
        results.append(forward(tensors))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_values_that_are_not_finite_reach_only_who_looks_at_them(isa, bad):
    tensors = draw(2, 40, 400, 8, 20)
    clean = forward(tensors)[0]
    scores = tensors[0][1].double() @ tensors[1][1].double().mT
    looks = soft_threshold(scores)[:, 7] > 0
    tensors[2][1, 7, 3] = bad
    out = forward(tensors)[0]
    assert torch.equal(out[0], clean[0])
    assert torch.equal(out[1, :, 3].isfinite(), ~looks)
    others = torch.arange(20) != 3
    torch.testing.assert_close(out[1][:, others], clean[1][:, others], rtol=4 * HALF, atol=HALF)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 3e38])
def test_a_query_that_cannot_be_multiplied_stays_alone(isa, bad):
    tensors = draw(1, 40, 400, 8, 20)
    clean = forward(tensors)[0]
    tensors[0][0, 5, 2] = bad
    out = forward(tensors)[0]
    others = torch.arange(40) != 5
    torch.testing.assert_close(out[:, others], clean[:, others], rtol=4 * HALF, atol=HALF)


def test_truncation_goes_the_usual_way(isa):
    query, key, value = draw(1, 40, 400, 8, 20)
    out, _ = forward((query, key, value), topk=50)
    weights = soft_threshold(query.double() @ key.double().mT, topk=50)
    truth = weights @ value.double()
    assert (out.double() - truth).norm() <= 1.5 * HALF * truth.norm()

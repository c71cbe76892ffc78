"""The compiled kernel's backward in bf16 tiles: autocast's calls, where neighbours share keys.

Unlike everything else that is compiled, tiles round: queries, keys, values and the gradient of the
output are bf16 already, but weights, the scores' gradients and centred keys are rounded to bf16
before they are multiplied. The truth is Eq. (19) in float64 on the support; how far an element may
be from it follows from bf16's precision.
"""

import os
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hspan import soft_threshold
from hspan.ops import _backends, _library, _native, _short
from hspan.ops._backends import support_capacity

if not _library.instruction_sets():
    if os.environ.get("HSPAN_REQUIRE_NATIVE") == "1":
        raise RuntimeError(_library.why_missing())
    pytest.skip(_library.why_missing(), allow_module_level=True)

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
SETS = _library.instruction_sets()
WITH_TILES = [name for name in SETS if name in ("avx512_bf16", "amx")]
ALWAYS, IF_FASTER, NEVER = 1, 0, -1

HALF = 2.0**-8  # what rounding to bf16 changes at most


@pytest.fixture(autouse=True)
def none_is_short(monkeypatch):
    """Small as these examples are, they stand for long sequences."""
    monkeypatch.setattr(_short, "MOST", 0)


@pytest.fixture(
    params=[(name, threads) for name in WITH_TILES for threads in (1, 2)],
    ids=lambda p: f"{p[0]}-{p[1]}",
)
def isa(request, run_on):
    return run_on(*request.param)


class Gradients(NamedTuple):
    query: Tensor
    key: Tensor
    value: Tensor


class Saved(NamedTuple):
    """A forward pass, and the gradient that its output is given."""

    tensors: tuple[Tensor, Tensor, Tensor]
    grad: Tensor
    limits: Tensor
    support: Tensor
    topk: int | None
    width: int

    def weights(self) -> Tensor:
        """The weights that were kept, dense; a query's are NaN where there was no room."""
        query, key, value = self.tensors
        (batch, n, _), m = query.shape, key.shape[1]
        dtype = _native._real(query, value)
        kept = _native._views(self.support, batch, n, support_capacity(n, m), dtype)
        dense = torch.zeros(batch, n, m, dtype=F64)
        for b in range(batch):
            for i in range(n):
                start, count = int(kept.starts[b, i]), int(kept.counts[b, i])
                entries = slice(start, start + count)
                if start < 0:
                    dense[b, i] = torch.nan
                else:
                    dense[b, i, kept.indices[b, entries].long()] = kept.weights[b, entries].double()
        return dense


def forward(tensors, topk=None, width=0, tiles=NEVER) -> Saved:
    """Supports are kept unless tiles may find them again."""
    topk = None if topk is None or topk >= tensors[1].shape[1] else topk
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_native, "_TILES", tiles)
        out, limits, support = torch.ops.hspan.attention.default(
            *tensors, topk, width, True, "native"
        )
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(3)).to(out.dtype)
    return Saved(tensors, grad, limits, support, topk, width)


def backward(saved: Saved, tiles: int, monkeypatch, kept=True) -> Gradients:
    monkeypatch.setattr(_native, "_TILES", tiles)
    return Gradients(
        *torch.ops.hspan.attention_backward.default(
            saved.grad, *saved.tensors, saved.limits,
            saved.support if kept else saved.support[:0], saved.topk, saved.width, "native",
        )
    )  # fmt: skip


def same(a: Gradients, b: Gradients) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def assert_close(got: Gradients, saved: Saved, weights: Tensor) -> None:
    """Compare with Eq. (19), element by element."""
    query, key, value = (t.double() for t in saved.tensors)
    grad = saved.grad.double()
    member = (weights > 0).double()
    number = member.sum(-1, keepdim=True).clamp_min(1)
    d_weights = member * (grad @ value.mT)
    slopes = d_weights - member * (d_weights.sum(-1, keepdim=True) / number)
    centred = key - key.mean(1, keepdim=True)
    truth = Gradients(slopes @ key, slopes.mT @ query, weights.mT @ grad)
    # Slopes are differences of float32 sums of products.
    sums = member * (grad.abs() @ value.abs().mT).amax(-1, keepdim=True) * 1e-5
    size = slopes.abs() * HALF + sums
    bound = Gradients(
        # Slopes and centred keys are both rounded; keys are centred in float32.
        size @ (2.01 * centred.abs()) + slopes.abs() @ key.abs() * 1e-6,
        size.mT @ query.abs(),
        HALF * weights.mT @ grad.abs(),
    )
    for name, ours, true, most in zip(Gradients._fields, got, truth, bound, strict=True):
        error = (ours.double() - true).abs()
        allowed = 1.01 * (most + HALF * true.abs()) + 1e-6 * true.abs().max() + 1e-37
        assert (error <= allowed).all(), f"{name}: {(error / allowed).max():.2f} of what is allowed"


def check(saved: Saved, monkeypatch) -> None:
    weights = saved.weights()
    if not weights.isnan().any():
        assert_close(backward(saved, ALWAYS, monkeypatch), saved, weights)
    if saved.topk is None:
        query, key, _ = (t.double() for t in saved.tensors)
        weights = soft_threshold(query @ key.mT)
        assert_close(backward(saved, ALWAYS, monkeypatch, kept=False), saved, weights)


def draw(batch, n, m, c, d, logits=1.0, seed=0) -> tuple[Tensor, Tensor, Tensor]:
    """Features in bf16 whose scores have a standard deviation of about ``logits``."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, n, c, generator=generator) * (logits / c**0.5)
    key = torch.randn(batch, m, c, generator=generator)
    value = torch.randn(batch, m, d, generator=generator)
    return query.to(BF16), key.to(BF16), value.to(BF16)


def alike(n, m, c, d, logits=1.0, seed=0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries that share most of their keys, as neighbours in an image do."""
    query, key, value = draw(1, n, m, c, d, logits, seed)
    return query[:, :1] + (0.1 * query).to(BF16), key, value


def with_zero_queries() -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = draw(1, 90, 203, 24, 40)
    query[:, 10:60] = 0
    return query, key, value


def with_ties() -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = draw(1, 40, 300, 8, 12, 2.0)
    key[:, 40:200] = key[:, :1]
    return query, key, value


def with_equal_keys() -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = draw(2, 33, 70, 8, 12)
    return query, key[:, :1].expand(-1, 70, -1).contiguous(), value


def off_centre(offset: float) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = draw(1, 60, 200, 16, 24, 0.5)
    return query, key + offset, value


HARD = {
    "one of each": lambda: draw(1, 1, 1, 1, 1),
    "one query": lambda: draw(2, 1, 77, 5, 4),
    "one key": lambda: draw(2, 77, 1, 5, 4),
    "one channel": lambda: draw(1, 131, 257, 1, 1),
    "channels that no vector divides": lambda: draw(3, 63, 101, 33, 47, 2.0),
    "a network's channels": lambda: draw(2, 70, 300, 24, 48, 0.3),
    "192 channels": lambda: draw(1, 50, 120, 192, 192),
    "more queries than keys": lambda: draw(3, 301, 7, 5, 4),
    "one key each": lambda: draw(1, 100, 200, 16, 16, 50.0),
    "half of the keys": lambda: alike(70, 400, 24, 48, 0.05),
    "nearly all keys": lambda: draw(1, 40, 200, 16, 32, 0.003),
    "few keys, alike": lambda: alike(70, 900, 24, 48, 3.0),
    "some zero queries": with_zero_queries,
    "ties": with_ties,
    "all keys equal": with_equal_keys,
    "keys 100 off centre": lambda: off_centre(100.0),
}


@pytest.mark.parametrize("case", HARD)
def test_hard_cases(isa, case, monkeypatch):
    check(forward(HARD[case]()), monkeypatch)


@pytest.mark.parametrize("k", [1, 7, 60, 199])
@pytest.mark.parametrize("logits", [0.01, 1.0])
def test_truncation(isa, k, logits, monkeypatch):
    check(forward(draw(2, 40, 200, 12, 20, logits), topk=k, width=8), monkeypatch)


@pytest.mark.parametrize("width", [4, 9, 36])
def test_tokens_in_squares(isa, width, monkeypatch):
    check(forward(draw(1, 9 * 36, 9 * 36, 8, 12), width=width), monkeypatch)


@given(
    batch=st.integers(1, 3),
    n=st.integers(1, 100),
    m=st.integers(1, 150),
    c=st.integers(1, 192),
    d=st.integers(1, 192),
    logits=st.sampled_from([3e-3, 0.05, 0.5, 3.0, 20.0]),
    topk=st.none() | st.integers(1, 150),
    seed=st.integers(0, 2**31),
)
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_drawn_shapes(isa, batch, n, m, c, d, logits, topk, seed):
    with pytest.MonkeyPatch.context() as monkeypatch:
        check(forward(draw(batch, n, m, c, d, logits, seed), topk=topk), monkeypatch)


def weights_in_use(saved: Saved, kept: bool, monkeypatch) -> Tensor:
    """The weights [N, M] of a call's only image, seen through the gradient of its values.

    The output's gradient is the identity [N, D], N = D, so that of the values is the weights,
    transposed.
    """
    n = saved.tensors[0].shape[1]
    saved = saved._replace(grad=torch.eye(n, dtype=BF16)[None])
    return backward(saved, ALWAYS, monkeypatch, kept).value[0].mT


@pytest.mark.parametrize("logits", [0.003, 0.1, 1.0, 8.0])
def test_entries_are_those_of_the_support(isa, logits, monkeypatch):
    saved = forward(draw(1, 70, 250, 8, 70, logits))
    kept = saved.weights()[0]
    assert torch.equal(weights_in_use(saved, True, monkeypatch), kept.to(BF16))
    again = weights_in_use(saved, False, monkeypatch)
    differ = (again > 0) != (kept > 0)
    assert (torch.maximum(again.double(), kept)[differ] < 1e-6).all()


def test_supports_without_room(isa, monkeypatch):
    """Some images of a batch keep their supports, others find them again."""
    monkeypatch.setattr(_backends, "_KEPT_PER_QUERY", 40)
    query, key, value = draw(3, 60, 300, 8, 20, 8.0)
    query[1] /= 1000
    saved = forward((query, key, value))
    missing = saved.weights().isnan().any((1, 2))
    assert missing.tolist() == [False, True, False]
    weights = soft_threshold(query.double() @ key.double().mT)
    assert_close(backward(saved, ALWAYS, monkeypatch), saved, weights)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kept", [True, False])
def test_same_bits_every_time(isa, batch, kept, monkeypatch):
    saved = forward(draw(batch, 300, 431, 24, 48, 0.5), width=20)
    first = backward(saved, ALWAYS, monkeypatch, kept)
    assert all(same(backward(saved, ALWAYS, monkeypatch, kept), first) for _ in range(3))


@pytest.mark.parametrize(("logits", "large"), [(0.05, True), (8.0, False)])
def test_large_supports_are_found_again_rather_than_kept(isa, logits, large, monkeypatch):
    tensors = draw(1, 64, 600, 8, 20, logits)
    kept, found = forward(tensors), forward(tensors, tiles=IF_FASTER)
    weights = kept.weights()
    assert found.weights().isnan().all() == large
    torch.testing.assert_close(found.limits, kept.limits, rtol=1e-5, atol=1e-6)
    same_limits = kept._replace(limits=found.limits)
    expected = backward(same_limits, ALWAYS, monkeypatch, kept=not large)
    assert same(backward(found, ALWAYS, monkeypatch), expected)
    assert_close(backward(found, IF_FASTER, monkeypatch), kept, weights)


# What tiles must not be taken for goes to the entries, one by one: the same bits show it.


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_gradient_that_is_not_finite_stays_where_it_is(isa, bad, monkeypatch):
    saved = forward(draw(2, 70, 90, 8, 20, 2.0))
    clean = backward(saved, ALWAYS, monkeypatch)
    weights = saved.weights()
    saved.grad[0, 41, 3] = bad
    got = backward(saved, ALWAYS, monkeypatch)
    assert torch.equal(got.value[0].isfinite().all(-1), weights[0, 41] == 0)
    assert torch.equal(got.query[0].isfinite().all(-1), torch.arange(70) != 41)
    assert all(torch.equal(x[1], y[1]) for x, y in zip(got, clean, strict=True))


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_undefined_query_stays_alone(isa, bad, kept, monkeypatch):
    tensors = draw(1, 70, 90, 8, 20)
    tensors[0][0, 33, 2] = bad
    saved = forward(tensors)
    weights = torch.zeros(1, 70, 90, dtype=F64)
    others = torch.arange(70) != 33
    weights[:, others] = soft_threshold(tensors[0][:, others].double() @ tensors[1].double().mT)
    got = backward(saved, ALWAYS, monkeypatch, kept)
    got.query[:, 33] = 0  # whatever it is
    tensors[0][:, 33] = 0
    assert_close(got, saved, weights)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_undefined_value_reaches_only_queries_that_look_at_it(isa, bad, monkeypatch):
    tensors = draw(1, 70, 90, 8, 20, 2.0)
    tensors[2][0, 41, 5] = bad
    saved = forward(tensors)
    weights = saved.weights()[0]
    got = backward(saved, ALWAYS, monkeypatch)
    assert torch.equal(got.query[0].isfinite().all(-1), weights[:, 41] == 0)
    assert got.value.isfinite().all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e30], ids=str)
@pytest.mark.parametrize("kept", [True, False])
def test_keys_that_cannot_be_screened(isa, bad, kept, monkeypatch):
    tensors = draw(2, 30, 50, 8, 20)
    tensors[1][1, 7, 2] = bad
    saved = forward(tensors)
    ways = [backward(saved, way, monkeypatch, kept) for way in (ALWAYS, NEVER)]
    for ours, theirs in zip(*ways, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_scores_whose_rounding_shows(isa, monkeypatch):
    """Not in the support, whose weights are solved in float64, but in scores multiplied again."""
    query, key, value = draw(1, 60, 90, 8, 20, 0.5)
    saved = forward(
        (torch.cat([query, query * 0 + 256], 2), torch.cat([key, key * 0 + 256], 2), value)
    )
    for kept, as_entries in ((True, False), (False, True)):
        tiles, entries = (backward(saved, w, monkeypatch, kept) for w in (ALWAYS, NEVER))
        assert same(tiles, entries) == as_entries


@pytest.mark.parametrize("wide", [(0, 1), (2,), (0, 1, 2)], ids=["scores", "values", "all"])
@pytest.mark.parametrize("dtype", [F32, torch.float16], ids=str)
def test_other_precisions_stay_exact(isa, wide, dtype, monkeypatch):
    tensors = [t.to(dtype) if i in wide else t for i, t in enumerate(alike(64, 300, 8, 20, 0.1))]
    saved = forward(tensors)
    assert same(*(backward(saved, way, monkeypatch) for way in (ALWAYS, NEVER)))


@pytest.mark.skipif(SETS == WITH_TILES, reason="every instruction set multiplies bf16")
def test_sets_without_bf16_products_have_no_tiles(monkeypatch):
    monkeypatch.setenv("HSPAN_ISA", next(name for name in SETS if name not in WITH_TILES))
    saved = forward(alike(64, 300, 8, 20, 0.1))
    assert same(*(backward(saved, way, monkeypatch) for way in (ALWAYS, NEVER)))


def test_full_supports_have_their_closed_form(isa, monkeypatch):
    saved = forward(draw(1, 64, 300, 8, 20, 1e-5))
    assert same(*(backward(saved, way, monkeypatch) for way in (ALWAYS, NEVER)))


def expected_choice(isa: str, weights: Tensor, c: int, d: int, kept: bool) -> int:
    """The cost model of native/backward_tiles.cpp, for images that it counts completely."""
    member = weights > 0
    n, m = member.shape
    together = 32 if isa == "amx" else 16
    groups = [member[first : first + together] for first in range(0, n, together)]
    assert len(groups) <= 6
    rows, entries = sum(int(g.any(0).sum()) for g in groups), int(member.sum())
    as_tiles = rows * (20 + 1.3 * (c + d)) + (n + m) * (65 + 1.25 * (c + d))
    as_tiles += 6 * entries if kept else -(-n // 16) * m * 8
    as_entries = entries * (36 + 0.33 * (c + d) + (0 if kept else 75))
    return ALWAYS if as_tiles < as_entries else NEVER


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(("c", "d"), [(24, 48), (96, 192)])
def test_the_cheaper_way_is_taken(isa, kept, c, d, monkeypatch):
    chosen = set()
    for spread in (0.0, 0.1, 0.3, 1.0):
        for logits in (0.1, 0.5, 1.0):
            query, key, value = draw(1, 96, 250, c, d, logits)
            query = query[:, :1] + (spread * query).to(BF16)
            saved = forward((query, key, value))
            choice = expected_choice(isa, saved.weights()[0], c, d, kept)
            auto, wanted, other = (
                backward(saved, way, monkeypatch, kept) for way in (IF_FASTER, choice, -choice)
            )
            assert same(auto, wanted), (spread, logits)
            assert not same(auto, other), (spread, logits)
            chosen.add(choice)
    assert chosen == {ALWAYS, NEVER}

"""The compiled kernel against the dense float64 truth, with every instruction set that runs here.

Whatever precision a kernel screens in, its values are exact to the precision of its inputs; the
hard cases below are those in which a screen, a bound or a shortcut might not be.
"""

import os
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hspan import attention_support, hspa_attention, soft_threshold
from hspan.ops import _library, _native
from hspan.ops._backends import support_capacity

if not _library.instruction_sets():
    if os.environ.get("HSPAN_REQUIRE_NATIVE") == "1":
        raise RuntimeError(_library.why_missing())
    pytest.skip(_library.why_missing(), allow_module_level=True)

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16


SETS = _library.instruction_sets()


# Threads are shared out by code that all instruction sets have in common: one of them will do.
@pytest.fixture(
    params=[
        *((name, 1, way) for way in ("whole", "prefix") for name in SETS),
        (SETS[-1], 2, "whole"),
    ],
    ids=lambda p: "-".join(map(str, p)),
)
def isa(request, run_on, monkeypatch):
    """An instruction set; scores are screened whole, or bounded by their prefixes first."""
    name, threads, way = request.param
    monkeypatch.setattr(_native, "_PREFIX", 1 if way == "prefix" else -1)
    return run_on(name, threads)


def draw(batch, n, m, c, d, logits=1.0, seed=0, dtype=F32) -> tuple[Tensor, Tensor, Tensor]:
    """Features whose scores have a standard deviation of about ``logits``."""
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, n, c, dtype=F64, generator=generator) * (logits / c**0.5)
    key = torch.randn(batch, m, c, dtype=F64, generator=generator)
    value = torch.randn(batch, m, d, dtype=F64, generator=generator)
    return query.to(dtype), key.to(dtype), value.to(dtype)


def alike(n, m, c, d, logits=1.0, seed=0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries that share most of their keys, as neighbours in an image do."""
    query, key, value = draw(1, n, m, c, d, logits, seed)
    return query[:, :1] + 0.1 * query, key, value


class Run(NamedTuple):
    """What one call and its gradient gave; dense weights, from the support that was kept."""

    out: Tensor
    weights: Tensor
    d_query: Tensor
    d_key: Tensor
    d_value: Tensor


def run(tensors, topk=None, width=0, seed=5) -> tuple[Run, Tensor]:
    """Run forward and backward through the operator; return also the gradient that was fed in."""
    query, key, value = tensors
    topk = None if topk is None or topk >= key.shape[1] else topk
    out, limits, support = torch.ops.hspan.attention.default(*tensors, topk, width, True, "native")
    grad = torch.randn(out.shape, dtype=F64, generator=torch.Generator().manual_seed(seed))
    grad = grad.to(out.dtype)
    grads = torch.ops.hspan.attention_backward.default(
        grad, *tensors, limits, support, topk, width, "native"
    )
    weights = dense_weights(query, key, topk, support, _native._real(query, value))
    return Run(out, weights, *grads), grad


def dense_weights(query, key, topk, support, dtype) -> Tensor:
    batch, n, m = *query.shape[:2], key.shape[1]
    kept = _native._views(support, batch, n, support_capacity(n, m), dtype)
    dense = torch.zeros(batch, n, m, dtype=F64)
    if (kept.starts < 0).any():
        offsets, indices, weights = attention_support(query, key, topk=topk)
        owner = torch.arange(batch * n).repeat_interleave(offsets.diff().flatten())
        dense.view(-1, m)[owner, indices] = weights.double()
        return dense
    counts = kept.counts.long().flatten()
    owner = torch.arange(batch * n).repeat_interleave(counts)
    first = kept.starts.flatten() + torch.arange(batch).repeat_interleave(n) * kept.indices.shape[1]
    within = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]
    places = first[owner] + within
    indices, weights = kept.indices.flatten()[places], kept.weights.flatten()[places]
    dense.view(-1, m)[owner, indices.long()] = weights.double()
    return dense


def decided(scores: Tensor, topk: int) -> Tensor:
    """Whether the k largest of a row are a matter of its scores, not of how ties are broken."""
    ordered = scores.sort(dim=-1, descending=True).values
    gap = ordered[..., topk - 1] - ordered[..., topk]
    small = (soft_threshold(scores) > 0).sum(-1) <= topk
    return small | (gap > 1e-12 * ordered.abs().amax(-1))


def check(tensors, topk=None, width=0, tolerance=1e-6) -> Run:
    """Values, weights, supports and gradients against the definition, in float64."""
    query, key, value = (t.double() for t in tensors)
    topk = None if topk is None or topk >= key.shape[1] else topk
    if all(t.dtype == BF16 for t in tensors):  # scores may be sums in float32
        tolerance = max(tolerance, 1e-4)
    result, grad = run(tensors, topk, width)
    scores = query @ key.mT
    weights = soft_threshold(scores, topk=topk)
    rows = decided(scores, topk) if topk else torch.ones(scores.shape[:2], dtype=torch.bool)

    # Of values that cancel by chance, the expected size is what errors are measured by.
    spread = (weights.square() @ value.square()).sqrt()[rows]
    assert_near(result.out[rows], (weights @ value)[rows], tolerance, "values", spread)
    differ = (weights > 0) != (result.weights > 0)
    edge = torch.maximum(weights, result.weights)[differ & rows.unsqueeze(-1)]
    assert (edge < 1e-6).all(), "supports"
    assert_near(result.weights[rows], weights[rows], tolerance, "weights")
    if topk:
        assert ((result.weights > 0).sum(-1) <= topk).all()

    # Eq. (19) on the support that was found, which may differ in entries of no weight.
    member = (result.weights > 0).double()
    g = grad.double()
    r = member * (g @ value.mT)
    d_scores = r - member * (r.sum(-1, keepdim=True) / member.sum(-1, keepdim=True))
    terms = r.square() + member * (r.square().sum(-1, keepdim=True) / member.sum(-1, keepdim=True))
    size_q, size_k = (terms @ key.square()).sqrt(), (terms.mT @ query.square()).sqrt()
    size_v = (result.weights.square().mT @ g.square()).sqrt()
    bound = 3 * tolerance
    assert_near(result.d_query, d_scores @ key, bound, "d_query", size_q)
    assert_near(result.d_key, d_scores.mT @ query, bound, "d_key", size_k)
    assert_near(result.d_value, result.weights.mT @ g, bound, "d_value", size_v)
    return result


def assert_near(ours, truth, tolerance, what, size=None) -> None:
    """Compare norms: of the error, and of the truth or of what cancelled to give it."""
    if ours.dtype in (BF16, F16):  # rounded once, at the end
        tolerance += torch.finfo(ours.dtype).eps
    error, norm = (ours.double() - truth).norm(), truth.norm()
    norm = norm if size is None else torch.maximum(norm, size.norm())
    assert error <= tolerance * norm + 1e-30, f"{what}: {error / norm:.1e} > {tolerance:.0e}"


def with_outlier(n=112, m=2000, logits=1.0, zero=False):
    query, key, value = draw(1, n, m, 8, 6, logits)
    key[0, 7] *= 1e4 / key[0, 7].norm()  # rounded to bf16, it is off by more than other scores
    if zero:
        query[0, 32:48] = 0
    return query, key, value


def with_ties(n=33, m=200, same=150):
    query, key, value = draw(1, n, m, 6, 5, 2.0)
    key[:, 20 : 20 + same] = key[:, :1]
    query[:, ::2] = 3 * key[:, :1]  # their largest scores tie
    return query, key, value


def with_sky(n=48, m=6000, sky=4000):
    """Keys that bf16 can't tell apart, and queries to which these are all about as similar."""
    query, key, value = draw(1, n, m, 24, 8, 4.0)
    blue = 16 * key[:, :1] / key[:, :1].norm()
    key[:, :sky] = blue + 0.005 * key[:, :sky]
    query[:, ::3] = blue + 1e-3 * query[:, ::3]
    return query, key, value


def with_long_keys(n=64, m=900):
    """Neighbours' keys that bf16 can't tell apart, and float32 can."""
    query, key, value = alike(n, m, 24, 8, 3.0)
    far = 40 * query[:, :1] / query[:, :1].norm()
    key = 0.1 * key + far
    key[:, ::2] -= 2 * far  # opposite ones, so that the mean says nothing
    return query, key, value


def with_offset(offset, logits=1.0):
    query, key, value = alike(64, 1500, 24, 8, logits)
    return query, key + offset, value


def with_overflowing_scores():
    """Half of each query's scores are -inf in float32."""
    query, key, value = draw(1, 40, 90, 8, 4)
    query[..., 0], key[..., 0] = 1e25, 0
    key[:, ::2, 0] = -1e14
    return query, key, value


def scaled(tensors, query=1.0, key=1.0):
    return tensors[0] * query, tensors[1] * key, tensors[2]


HARD = {
    "nearly all keys": lambda: draw(1, 40, 1500, 16, 8, 1e-5),
    "nearly all keys, alike": lambda: alike(40, 1500, 16, 8, 1e-4),
    "thousands of keys": lambda: alike(24, 5000, 16, 8, 1e-3),
    "thousands of keys, values not centred": lambda: tuple(
        t + s for t, s in zip(draw(1, 24, 5000, 16, 8, 1e-5), (0, 0, 3), strict=True)
    ),
    "half of the keys": lambda: alike(40, 900, 12, 40, 0.01),
    "few keys, alike": lambda: alike(70, 900, 24, 48, 3.0),
    "logits 1e4": lambda: draw(1, 50, 900, 24, 8, 1e4),
    "logits 1e4, two keys": lambda: draw(1, 1, 2, 103, 8, 1e4),
    "long keys, alike": with_long_keys,
    "queries of 1e30": lambda: scaled(draw(1, 50, 900, 24, 8), query=1e30),
    "zero queries": lambda: scaled(draw(1, 20, 5000, 24, 8), query=0),
    "zero keys": lambda: scaled(draw(1, 20, 1500, 24, 8), key=0),
    "some zero queries": lambda: with_outlier(zero=True),
    "outlier key": with_outlier,
    "outlier and zero queries, many keys": lambda: with_outlier(n=48, m=9216, zero=True),
    "outlier and nearly all of very many keys": lambda: with_outlier(32, 65_536, 1e-5),
    "sky": with_sky,
    "ties": with_ties,
    "all keys equal": lambda: with_ties(same=180),
    "keys 10 off centre": lambda: with_offset(10.0),
    "keys 1000 off centre": lambda: with_offset(1e3),
    "keys 1000 off centre, large support": lambda: with_offset(1e3, 0.01),
    "keys 1000 off centre, all of them": lambda: with_offset(1e3, 1e-5),
    "scores of -inf": with_overflowing_scores,
    "one query": lambda: draw(2, 1, 77, 5, 4),
    "one key": lambda: draw(2, 77, 1, 5, 4),
    "one of each": lambda: draw(1, 1, 1, 1, 1),
    "one channel": lambda: draw(1, 131, 257, 1, 1),
    "many channels": lambda: draw(1, 35, 67, 1100, 1030),
    "more queries than keys": lambda: draw(3, 301, 7, 5, 4),
    "denormal queries": lambda: scaled(draw(1, 20, 300, 4, 3), query=1e-40),
    "denormal keys": lambda: scaled(draw(1, 20, 300, 4, 3), query=2e37, key=1e-39),
}


@pytest.mark.parametrize("case", HARD)
def test_hard_cases(isa, case):
    check(HARD[case](), tolerance=1e-5 if case.startswith("logits 1e4") else 1e-6)


@pytest.mark.parametrize("d", [1, 16, 33, 100, 200])  # they are multiplied in groups
@pytest.mark.parametrize(("n", "m", "k"), [(40, 600, None), (16, 601, 150), (200, 333, 332)])
def test_queries_that_look_at_most_keys(isa, n, m, k, d):
    check(alike(n, m, 70, d, 3e-3), topk=k)


@pytest.mark.parametrize("k", [1, 7, 100, 599, 600])
@pytest.mark.parametrize("logits", [1e-4, 0.3, 3.0])
def test_truncation(isa, logits, k):
    check(draw(2, 40, 600, 12, 6, logits), topk=k, width=8)


@pytest.mark.parametrize("k", [30, 1500])
def test_truncation_of_a_sky(isa, k):
    check(with_sky(), topk=k)


@pytest.mark.parametrize("k", [2, 71, 406])
def test_truncation_off_centre(isa, k):
    """In float32 the k-th score and the next would often be the same."""
    query, key, value = draw(1, 96, 530, 12, 6, 1e-5)
    check((query, key + 300, value), topk=k)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize(("logits", "k"), [(0.05, 3), (0.005, 61), (1e-4, 511)])
def test_truncation_of_supports_that_neighbours_share(isa, logits, k, dtype):
    """Sixteen queries are truncated together; what float32 leaves open is settled one by one."""
    query, key, value = alike(40, 512, 24, 6, logits)
    key = torch.cat([key[:, :256], key[:, :256] * (1 + 1e-6)], 1)  # pairs that hardly differ
    result = check((query.to(dtype), key.to(dtype), value), topk=k)
    assert ((result.weights > 0).sum(-1) == k).all()


@pytest.mark.parametrize("topk", [None, 20])
@pytest.mark.parametrize("large", [1e200, 1e18, 1e-200])
def test_float64_beyond_the_range_of_float32(isa, large, topk):
    """Scores stay as they are, and so does all that depends on them alone."""
    tensors = draw(1, 40, 90, 6, 5, 2.0, dtype=F64)
    plain, _ = run(tensors, topk)
    result, _ = run(scaled(tensors, query=large, key=1 / large), topk)
    assert_near(result.out, plain.out, 1e-12, "values")
    assert_near(result.d_query * large, plain.d_query, 1e-12, "d_query")
    assert_near(result.d_key / large, plain.d_key, 1e-12, "d_key")


@pytest.mark.parametrize("small", [(1e-200, 1.0), (1e-100, 1e-100), (1.0, 1e-200)], ids=str)
def test_truncation_by_scores_that_hardly_differ(isa, small):
    query, key, value = draw(1, 20, 300, 4, 3, dtype=F64)
    members = soft_threshold(1e-9 * query @ key.mT, topk=40) > 0
    result, _ = run(scaled((query, key, value), *small), 40)
    assert (result.weights > 0).equal(members)


@pytest.mark.parametrize("layout", ["transposed", "every second", "expanded"])
def test_any_strides(isa, layout):
    tensors = draw(2, 50, 60, 6, 5)
    change = {
        "transposed": lambda t: t.mT.contiguous().mT,
        "every second": lambda t: t.repeat_interleave(2, dim=1)[:, ::2],
        "expanded": lambda t: t[:1].expand(2, -1, -1),
    }[layout]
    check([change(t) for t in tensors])


few = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
sizes = st.integers(1, 130) | st.sampled_from([1, 16, 17, 64, 512])


@pytest.mark.parametrize("dtype", [F32, F64, BF16, F16], ids=str)
@given(
    batch=st.integers(1, 3),
    n=sizes,
    m=sizes,
    c=sizes,
    d=st.integers(1, 200) | st.just(512),
    logits=st.sampled_from([1e-3, 0.05, 0.5, 3.0, 50.0, 1e4]),
    topk=st.none() | st.integers(1, 140),
    width=st.sampled_from([0, 4, 5, 8, 16, 33]),
    mixed=st.booleans(),
    seed=st.integers(0, 2**31),
)
@few
def test_drawn_shapes(isa, dtype, batch, n, m, c, d, logits, topk, width, mixed, seed):
    query, key, value = draw(batch, n, m, c, d, logits, seed, dtype)
    if mixed:
        value = value.float()  # then the kernel's own precision is seen, not that of the result
    tolerance = 1e-6 if logits <= 50 else 1e-5
    if batch * n < 16:  # so few errors don't average out: 2.5e-6 at worst in 3,000 single queries
        tolerance *= 4
    if dtype == F64 and not mixed:
        tolerance = 1e-12 if logits <= 50 else 1e-9
    if dtype == F16:
        query = query.clamp(-6e4, 6e4)
    check((query, key, value), topk, width, tolerance)


@pytest.mark.parametrize("k", [1, 7, 151])
def test_ties_at_the_edge_keep_exactly_k(isa, k):
    query, key, value = with_ties()
    offsets, _, weights = attention_support(query, key, topk=k)
    counts = offsets.diff()
    assert (counts[0, ::2] == k).all()
    torch.testing.assert_close(weights[: int(offsets[0, 1])], torch.full((k,), 1 / k))
    result, _ = run((query, key, value), k, width=3)
    assert_near(result.out, result.weights @ value.double(), 1e-6, "values")


@pytest.mark.parametrize("topk", [None, 20])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e38], ids=str)
def test_undefined_queries_are_nan_alone(isa, bad, topk):
    query, key, value = draw(2, 70, 400, 4, 3)
    truth = hspa_attention(query.double(), key.double(), value.double(), topk=topk)
    key[0] *= 100  # with 1e38, scores overflow
    truth[0] = hspa_attention(query[:1].double(), key[:1].double(), value[:1].double(), topk=topk)
    query[0, 5] = bad
    result, _ = run((query, key, value), topk)
    assert result.out[0, 5].isnan().all()
    truth[0, 5] = result.out[0, 5] = 0
    assert_near(result.out, truth, 1e-6, "values")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e30], ids=str)
def test_keys_that_cannot_be_screened_go_the_other_way(isa, bad):
    tensors = draw(2, 70, 400, 4, 3)
    tensors[1][1, 7, 2] = bad
    results = []
    for backend in ("native", "screened"):
        leaves = [t.clone().requires_grad_() for t in tensors]
        out = hspa_attention(*leaves, backend=backend)
        out.sum().backward()
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("logits", [1e-3, 0.01, 1.0])  # multiplied as a matrix, and gathered
def test_values_without_weight_do_not_leak(isa, logits):
    query, key, value = alike(32, 900, 8, 20, logits)
    weights = soft_threshold(query.double() @ key.double().mT)[0]
    clean = hspa_attention(query, key, value)
    unused = (weights[0] == 0) & (weights[1:] > 1e-3 * weights.max()).any(0)
    assert unused.any()
    value[0, unused] = torch.nan
    out = hspa_attention(query, key, value)
    affected = (weights[:, unused] > 0).any(-1)
    assert_near(out[0, ~affected], clean[0, ~affected].double(), 1e-6, "values")


def test_no_channels(isa):
    query, key, value = draw(2, 20, 50, 1, 7)
    out = hspa_attention(query[..., :0], key[..., :0], value)
    torch.testing.assert_close(out, value.mean(1, keepdim=True).expand(-1, 20, -1))
    out = hspa_attention(query[..., :0], key[..., :0], value, topk=3)  # of ties, the first ones
    torch.testing.assert_close(out, value[:, :3].mean(1, keepdim=True).expand(-1, 20, -1))
    assert hspa_attention(query, key, value[..., :0]).shape == (2, 20, 0)


def test_supports_that_were_not_kept_are_found_again(isa):
    tensors = draw(2, 130, 600, 8, 5, 1e-4)
    _, _, support = torch.ops.hspan.attention.default(*tensors, None, 0, True, "native")
    kept = _native._views(support, 2, 130, support_capacity(130, 600), F32)
    assert (kept.starts < 0).any()
    for topk in (None, 590):
        check(tensors, topk)


def test_same_bits_every_time(isa):
    tensors = draw(3, 300, 1000, 16, 20, 0.5)  # columns that vectors don't divide
    first, _ = run(tensors, width=20)
    for _ in range(4):
        again, _ = run(tensors, width=20)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("batch", [1, 3])
def test_backward_is_the_same_for_any_number_of_threads(isa, batch):
    tensors = draw(batch, 300, 1000, 16, 20, 0.5)
    attention = torch.ops.hspan.attention.default
    gradients = torch.ops.hspan.attention_backward.default
    out, limits, support = attention(*tensors, None, 0, True, "native")
    results, before = [], torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(gradients(out, *tensors, limits, support, None, 0, "native"))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))

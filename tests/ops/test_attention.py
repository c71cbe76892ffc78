"""Eqs. (6)-(8): every backend against the float64 reference, on awkward sizes and values."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hspan import (
    BackendUnavailable,
    UsageError,
    attention_support,
    hspa_attention,
    soft_threshold,
    softmax_attention,
)

FAST = ["native", "screened", "tiles"]


def draw(batch, n, m, c, d, spread=1.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, n, c, dtype=dtype, generator=generator) * spread
    key = torch.randn(batch, m, c, dtype=dtype, generator=generator)
    value = torch.randn(batch, m, d, dtype=dtype, generator=generator)
    return query, key, value


def value_and_grads(function, tensors, **options):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    out = function(*leaves, **options)
    weight = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(9))
    out.backward(weight)
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("topk", [None, 7])
@pytest.mark.parametrize("size", [1, 63, 100, 700])
def test_matches_reference(backend, topk, size):
    tensors = draw(2, size, size + 3, 5, 6)
    ours = value_and_grads(hspa_attention, tensors, topk=topk, backend=backend)
    truth = value_and_grads(hspa_attention, tensors, topk=topk, backend="reference")
    for a, b in zip(ours, truth, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@given(
    n=st.integers(1, 90),
    m=st.integers(1, 300),
    c=st.integers(1, 9),
    d=st.integers(1, 9),
    batch=st.integers(1, 3),
    spread=st.sampled_from([0.0, 1e-3, 0.3, 3.0, 1e4]),
    topk=st.none() | st.integers(1, 40),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_matches_reference_on_drawn_shapes(n, m, c, d, batch, spread, topk, seed):
    if spread == 0 and topk is not None:
        topk = None  # every score ties, and which of them count is free
    tensors = draw(batch, n, m, c, d, spread, seed)
    truth = hspa_attention(*tensors, topk=topk, backend="reference")
    for backend in FAST:
        ours = hspa_attention(*tensors, topk=topk, backend=backend)
        torch.testing.assert_close(ours, truth, rtol=0, atol=1e-9)


def test_reference_is_equation_8():
    query, key, value = draw(1, 9, 11, 4, 3)
    expected = soft_threshold(query @ key.transpose(1, 2)) @ value
    torch.testing.assert_close(hspa_attention(query, key, value, backend="reference"), expected)


@pytest.mark.parametrize("backend", [*FAST, "reference"])
@pytest.mark.parametrize("topk", [None, 6])
def test_gradcheck(backend, topk):
    tensors = [t.requires_grad_() for t in draw(2, 4, 20, 3, 2)]
    assert torch.autograd.gradcheck(
        lambda q, k, v: hspa_attention(q, k, v, topk=topk, backend=backend), tensors
    )


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float32, 1e-6), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)],
)
def test_dtypes(backend, dtype, tolerance):
    tensors = [t.to(dtype) for t in draw(2, 150, 900, 16, 8)]
    out = hspa_attention(*tensors, backend=backend)
    truth = hspa_attention(*(t.double() for t in tensors), backend="reference")
    assert out.dtype == dtype
    assert (out.double() - truth).norm() / truth.norm() < tolerance


def test_value_may_have_another_dtype():
    query, key, value = draw(1, 20, 30, 4, 4)
    out = hspa_attention(query.float(), key.float(), value.bfloat16())
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize("backend", FAST)
def test_large_logits(backend):
    query, key, value = draw(1, 200, 2000, 16, 4, spread=1e4, dtype=torch.float32)
    out = hspa_attention(query, key, value, backend=backend)
    # In float64 on the same float32 products: what is checked is the threshold, not rounding of
    # scores that differ by less than their own last digit.
    scores = query @ key.transpose(1, 2)
    truth = soft_threshold(scores.double()) @ value.double()
    assert (out.double() - truth).norm() / truth.norm() < 1e-5


@pytest.mark.parametrize("backend", FAST)
def test_constant_rows_and_ties(backend):
    query, key, value = draw(1, 70, 500, 4, 3)
    query[:, ::2] = 0  # equal scores: full support
    key[:, 10:400] = key[:, :1]  # ties of 390 keys
    ours = hspa_attention(query, key, value, backend=backend)
    torch.testing.assert_close(ours, hspa_attention(query, key, value, backend="reference"))
    torch.testing.assert_close(ours[0, 0], value[0].mean(0))


@pytest.mark.parametrize("backend", [*FAST, "reference"])
@pytest.mark.parametrize("topk", [None, 20])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e200], ids=str)
def test_undefined_queries_are_nan_alone(backend, topk, bad):
    query, key, value = draw(2, 70, 400, 4, 3)
    truth = hspa_attention(query, key, value, topk=topk, backend="reference")
    query[1, 5] = bad
    key = key * 1e150 if bad == 1e200 else key  # their product overflows
    out = hspa_attention(query, key, value, topk=topk, backend=backend)
    assert out[1, 5].isnan().all()
    others = torch.ones(2, 70, dtype=torch.bool)
    others[1, 5] = False
    assert out[others].isfinite().all()
    if bad != 1e200:
        torch.testing.assert_close(out[others], truth[others])


@pytest.mark.parametrize("backend", FAST)
def test_non_contiguous(backend):
    query, key, value = (
        t.transpose(1, 2).contiguous().transpose(1, 2) for t in draw(2, 80, 90, 6, 5)
    )
    out = hspa_attention(query, key, value, backend=backend)
    truth = hspa_attention(query, key, value, backend="reference")
    torch.testing.assert_close(out, truth)


def test_no_queries_or_no_images():
    query, key, value = draw(2, 8, 9, 4, 3)
    assert hspa_attention(query[:, :0], key, value).shape == (2, 0, 3)
    assert hspa_attention(query[:0], key[:0], value[:0]).shape == (0, 8, 3)


@pytest.mark.parametrize("topk", [None, 5])
@pytest.mark.parametrize("spread", [0.05, 2.0])  # dense and sparse tiles
def test_support_is_the_weights(topk, spread):
    query, key, _ = draw(2, 90, 400, 5, 3, spread)
    offsets, indices, weights = attention_support(query, key, topk=topk)
    assert offsets.shape == (2, 91)
    assert offsets[0, 0] == 0
    assert offsets[0, -1] == offsets[1, 0]
    assert offsets[1, -1] == len(indices) == len(weights)
    dense = torch.zeros(2, 90, 400, dtype=torch.float64)
    for b in range(2):
        own = slice(offsets[b, 0], offsets[b, -1])
        owner = torch.repeat_interleave(torch.arange(90), offsets[b].diff())
        dense[b, owner, indices[own]] = weights[own]
        for n in range(90):
            row = indices[offsets[b, n] : offsets[b, n + 1]]
            assert (row.diff() > 0).all()
    truth = soft_threshold(query @ key.transpose(1, 2), topk=topk)
    torch.testing.assert_close(dense, truth)
    assert (weights > 0).all()


def test_softmax_is_equation_6():
    query, key, value = draw(2, 30, 40, 6, 5)
    expected = (query @ key.transpose(1, 2)).softmax(-1) @ value
    torch.testing.assert_close(softmax_attention(query, key, value), expected)
    torch.testing.assert_close(softmax_attention(query, key, value, backend="reference"), expected)


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("depth", [3, 5, 8])
def test_softmax_attention_is_fused_whatever_the_layout(depth, channels_first):
    """Without a fused kernel torch would hold the N×M weights; here it would raise instead."""
    tensors = draw(2, 30, 40, 5, depth, dtype=torch.float32)
    if channels_first:  # as features of an image are
        tensors = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in tensors]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
        output = softmax_attention(*tensors)
    torch.testing.assert_close(output, softmax_attention(*tensors, backend="reference"))


MEMORY = """
import resource, torch
from hspan import hspa_attention
torch.manual_seed(0)
n, c = 36_864, 64
q, k, v = (torch.randn(1, n, c) * s for s in (0.5, 0.5, 1.0))
for t in (q, k, v): t.requires_grad_()
hspa_attention(q[:, :64], k[:, :64], v[:, :64]).sum().backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
out = hspa_attention(q[:, :{rows}], k, v)
{backward}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("backward", ["", "out.sum().backward()"], ids=["forward", "backward"])
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_memory_is_linear(backward):
    """A tenth of the queries of a 192×192 image, all its keys: dense would hold 0.54 GB a copy."""
    code = MEMORY.format(rows=3_686, backward=backward)
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert int(output) / 1024 < 300  # MiB


def test_named_backend_that_cannot_run_says_why():
    with pytest.raises(BackendUnavailable, match=r"triton.*(CUDA devices|not installed)"):
        hspa_attention(*draw(1, 4, 4, 2, 2), backend="triton")


@pytest.mark.parametrize(
    ("change", "options", "match"),
    [
        (lambda q, k, v: (q[0], k, v), {}, r"\[B, N, C\]"),
        (lambda q, k, v: (q, k[..., :2], v), {}, "same batch and channels"),
        (lambda q, k, v: (q, k, v[:, :3]), {}, r"\[B, M, D\]"),
        (lambda q, k, v: (q, k[:, :0], v[:, :0]), {}, "no keys"),
        (lambda q, k, v: (q.float(), k, v), {}, "one floating dtype"),
        (lambda q, k, v: (q, k, v.long()), {}, "floating"),
        (lambda q, k, v: (q, k, v), {"topk": 0}, "topk"),
        (lambda q, k, v: (q, k, v), {"backend": "cuda"}, "choose from"),
    ],
)
def test_wrong_calls(change, options, match):
    with pytest.raises(UsageError, match=match):
        hspa_attention(*change(*draw(1, 4, 5, 3, 2)), **options)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("topk", [None, 4])
def test_operator_is_well_formed(backend, topk):
    tensors = [t.requires_grad_() for t in draw(2, 6, 40, 3, 5, dtype=torch.float32)]
    torch.library.opcheck(
        torch.ops.hspan.attention.default,
        # Kept supports hold memory that nobody has written.
        (*tensors, topk, 0, False, backend),
        atol=1e-5,
        rtol=1e-4,
    )


def test_compiled_sees_one_node():
    targets = []

    def inspect(graph, _inputs):
        targets.extend(n.target for n in graph.graph.nodes if n.op == "call_function")
        return graph.forward

    tensors = draw(1, 50, 60, 4, 4)
    compiled = torch.compile(hspa_attention, backend=inspect, fullgraph=True)
    torch.testing.assert_close(compiled(*tensors), hspa_attention(*tensors))
    assert targets.count(torch.ops.hspan.attention.default) == 1


def test_autocast_keeps_scores_in_float32():
    query, key, value = draw(1, 100, 400, 16, 4, dtype=torch.float32)
    plain = hspa_attention(query, key, value)
    with torch.autocast("cpu", torch.bfloat16):
        under = hspa_attention(query, key, value)
    torch.testing.assert_close(under, plain)

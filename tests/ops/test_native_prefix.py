"""The compiled kernel where it bounds scores by their first principal components.

What test_native.py demands holds with these bounds as well: it runs with both. Here are the
features for which they are made, those for which they say little, and the choice between both ways.
"""

import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hspan import hspa_attention, soft_threshold
from hspan.ops import _library, _native
from hspan.ops._backends import support_capacity

if not _library.instruction_sets():
    if os.environ.get("HSPAN_REQUIRE_NATIVE") == "1":
        raise RuntimeError(_library.why_missing())
    pytest.skip(_library.why_missing(), allow_module_level=True)

F64 = torch.float64
SETS = _library.instruction_sets()
NEVER, IF_FASTER, ALWAYS = -1, 0, 1


@pytest.fixture(params=SETS)
def isa(request, run_on, monkeypatch):
    monkeypatch.setattr(_native, "_PREFIX", ALWAYS)
    return run_on(request.param, 2)


def draw(n, m, c, decay, logits=6.0, d=8, seed=0) -> tuple[Tensor, Tensor, Tensor]:
    """Features whose principal components, in any basis, fall off as exp(-decay · i)."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(c, c, dtype=F64, generator=generator)).Q
    sizes = (-decay * torch.arange(c, dtype=F64)).exp()
    query = torch.randn(1, n, c, dtype=F64, generator=generator) * sizes @ turn
    key = torch.randn(1, m, c, dtype=F64, generator=generator) * sizes @ turn
    scale = logits / (query @ key[:, :200].mT).std()
    value = torch.randn(1, m, d, generator=generator)
    return (query * scale).float(), key.float(), value


def check(tensors, topk=None, tolerance=1e-6) -> Tensor:
    query, key, value = (t.double() for t in tensors)
    weights = soft_threshold(query @ key.mT, topk=topk)
    out = hspa_attention(*tensors, topk=topk, backend="native")
    size = (weights.square() @ value.square()).sqrt().norm()
    assert (out.double() - weights @ value).norm() <= tolerance * size
    return out


@pytest.mark.parametrize("topk", [None, 5, 200])
@pytest.mark.parametrize("decay", [0.2, 0.05, 0.01, 0.0])  # the rest decides nothing to most
def test_nothing_that_matters_is_ruled_out(isa, decay, topk):
    check(draw(64, 6000, 96, decay), topk)


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    n=st.integers(1, 100),
    m=st.integers(1100, 4000),  # more blocks than are taken first
    channels=st.integers(1, 200),
    decay=st.floats(0, 0.3),
    logits=st.sampled_from([0.3, 1.0, 3.0, 20.0]),
    topk=st.none() | st.integers(1, 300),
    seed=st.integers(0, 2**31),
)
def test_drawn_shapes(isa, n, m, channels, decay, logits, topk, seed):
    # Of few queries, errors of float32 don't average out.
    check(draw(n, m, channels, decay, logits, seed=seed), topk, tolerance=4e-6)


@pytest.mark.parametrize("channels", [1, 31, 32, 33, 130, 300, 480])
def test_any_number_of_channels(isa, channels):
    check(draw(40, 3000, channels, 2 / channels))


@pytest.mark.parametrize(("channels", "decay"), [(31, 0.0), (64, 0.3)])
def test_projections_are_rounded_where_scores_are_not(isa, channels, decay):
    """Of bf16 numbers the products are exact; what their projections lose is another matter."""
    query, key, value = draw(320, 6000, channels, decay, logits=1.0)
    check((query.bfloat16(), key.bfloat16(), value))


def test_more_blocks_promise_much_than_are_taken_first(isa):
    """Half of the keys are about as good as the best ones: many bounds are nearly equal."""
    query, key, value = draw(48, 6000, 64, 0.1)
    key[:, ::2] = key[:, :1] + 1e-3 * key[:, ::2]
    query = 4 * key[:, :1] / key[:, :1].norm() + 1e-2 * query
    check((query, key, value))
    check((query, key, value), topk=50)


@pytest.mark.parametrize("scale", [1e-13, 1e13, 1e20], ids=str)
def test_queries_at_the_ends_of_the_range(isa, scale):
    """Their projections could lose digits; the others of their tile keep their bounds."""
    query, key, value = draw(64, 3000, 64, 0.1)
    query[:, ::5] *= scale
    query[:, 3] = 0
    check((query, key, value))


@pytest.mark.parametrize("scale", [1e-30, 1e-13, 1e13], ids=str)
def test_keys_at_the_ends_of_the_range(isa, scale):
    query, key, value = draw(64, 3000, 64, 0.1)
    check((query / scale if scale > 1e-20 else query, key * scale, value))
    key[:, ::3] *= scale
    check((query, key, value), tolerance=1e-5)


def test_undefined_queries_are_nan_alone(isa):
    query, key, value = draw(64, 3000, 64, 0.1)
    query[0, 7, 3], query[0, 40, 0] = torch.nan, torch.inf
    out = hspa_attention(query, key, value, backend="native")
    bad = torch.tensor([7, 40])
    assert out[0, bad].isnan().all()
    good = torch.ones(64, dtype=torch.bool).index_fill(0, bad, False)
    torch.testing.assert_close(
        out[:, good], check((query[:, good], key, value)), rtol=1e-5, atol=1e-6
    )


def test_images_of_a_batch_have_prefixes_of_their_own(isa):
    tensors = [draw(48, 3000, 64, 0.1, seed=s) for s in range(3)]
    tensors[1][1][:] = 0  # this one has none
    query, key, value = (torch.cat(t) for t in zip(*tensors, strict=True))
    check((query, key, value))


@pytest.mark.parametrize("name", SETS)
def test_the_choice_follows_what_prefixes_leave(name, run_on, monkeypatch):
    """Which way was taken shows in the order of what was kept: promising blocks come first."""
    run_on(name, 1)

    def kept_by(way, query, key, value) -> Tensor:
        monkeypatch.setattr(_native, "_PREFIX", way)
        call = torch.ops.hspan.attention.default
        _, _, support = call(query, key, value, None, 0, True, "native")
        n, m = query.shape[1], key.shape[1]
        kept = _native._views(support, 1, n, support_capacity(n, m), torch.float32)
        return kept.indices[0, : int(kept.counts.sum())]

    def takes_prefix(tensors) -> bool:
        never, chosen, always = (kept_by(way, *tensors) for way in (NEVER, IF_FASTER, ALWAYS))
        assert not never.equal(always)
        assert chosen.equal(never) or chosen.equal(always)
        return chosen.equal(always)

    least = 16_384  # keys from which it may pay with every instruction set
    query, key, value = draw(512, least, 96, 0.15, logits=1.5)
    assert takes_prefix((query, key, value))
    assert not takes_prefix((query, key[:, :2048], value[:, :2048]))
    assert not takes_prefix(draw(512, least, 96, 0.0))  # in a flat spectrum nothing is ruled out
    assert not takes_prefix(draw(512, least, 48, 0.3))  # so few channels are soon multiplied
    if name != "amx":  # so many aren't, and few blocks are ruled out by the scores either
        assert takes_prefix(draw(512, least, 480, 0.0, logits=0.15))
        assert not takes_prefix(draw(512, least, 480, 0.0, logits=1.5))

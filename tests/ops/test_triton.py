"""Triton kernels against the float64 reference: compiled where there is a GPU, else interpreted.

The interpreter must be chosen before Triton is imported. So this file imports it while it is
collected; should something else have imported Triton for compiling before, the whole file runs in a
process of its own.
"""

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hspan import BackendUnavailable, hspa_attention
from hspan.ops import _backends, _triton_shapes

if find_spec("triton") is None:
    pytest.skip("needs Triton", allow_module_level=True)

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
ELSEWHERE = not CUDA and "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1"
with pytest.MonkeyPatch.context() as patch:
    if not CUDA and not ELSEWHERE:
        patch.setenv("TRITON_INTERPRET", "1")
    import_module("hspan.ops._triton")

pytestmark = [pytest.mark.gpu] if CUDA else []
# NumPy's words, in the interpreter, for scores that are meant to be infinite or NaN.
infinities = pytest.mark.filterwarnings("ignore:(invalid value|overflow|All-NaN):RuntimeWarning")


@pytest.fixture(autouse=True)
def interpreted(request, monkeypatch):
    if ELSEWHERE and request.node.originalname != "test_in_a_process_of_its_own":
        pytest.skip("Triton is here for compiling: test_in_a_process_of_its_own runs this")
    if not CUDA:
        monkeypatch.setenv("TRITON_INTERPRET", "1")


@pytest.fixture
def small(monkeypatch):
    """Tiles so small that few tokens make several: the interpreter takes its time for each."""
    if not CUDA:
        launch = _triton_shapes.Launch(16, 4, queries=16, keys=16, warps=4, wide_warps=4, stages=2)
        monkeypatch.setattr(_triton_shapes, "_SINGLE", launch)
        monkeypatch.setattr(_triton_shapes, "_HALF", launch)


@pytest.mark.skipif(not ELSEWHERE, reason="the other tests run in this process")
def test_in_a_process_of_its_own():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:]


WAYS = ["direct", "candidates", "tiles"]
# Truncation is always screened.
SCREENED = [("direct", None), *((way, k) for way in WAYS[1:] for k in (None, 6))]
every_way = pytest.mark.parametrize(("way", "topk"), SCREENED, indirect=["way"])


@pytest.fixture(params=WAYS)
def way(request, monkeypatch, small):
    """All tiles at once; candidates that fit their buffer; candidates that don't."""
    if request.param != "direct":
        monkeypatch.setattr(_triton_shapes, "DIRECT_KEYS", 0)
    if request.param == "tiles":
        monkeypatch.setattr(_triton_shapes, "_MIN_CAPACITY", 4)
        monkeypatch.setattr(_triton_shapes, "_MAX_CAPACITY", 4)
    return request.param


def draw(batch, n, m, c, d, spread=1.0, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, n, c, generator=generator) * spread
    key = torch.randn(batch, m, c, generator=generator)
    value = torch.randn(batch, m, d, generator=generator)
    return [t.to(dtype).to(DEVICE) for t in (query, key, value)]


def attend(tensors, topk=None, **options):
    return hspa_attention(*tensors, topk=topk, backend="triton", **options)


def value_and_grads(tensors, topk, backend):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    out = hspa_attention(*leaves, topk=topk, backend=backend)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).to(out)
    out.backward(weight)
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def assert_same_value_and_grads(tensors, topk, tolerance):
    """Relative errors against float64, on inputs without a score at the edge of the support."""
    exact = [t.double() for t in tensors]
    scores = exact[0] @ exact[1].transpose(1, 2)
    weights = hspa_attention(
        *exact[:2], torch.eye(exact[1].shape[1]).to(scores).expand(len(scores), -1, -1),
        topk=topk, backend="reference",
    )  # fmt: skip
    inside = weights > 0
    lowest = scores.masked_fill(~inside, torch.inf).amin(-1)
    assert weights[inside].min() > 1e-6
    if topk is not None:
        assert ((lowest[..., None] - scores)[~inside] > 1e-6).all()
    ours = value_and_grads(tensors, topk, "triton")
    truth = value_and_grads(exact, topk, "reference")
    for a, b, like in zip(ours, truth, (tensors[2], *tensors), strict=True):
        assert a.dtype == like.dtype
        # A gradient can vanish, as of scores without channels that tell them apart: then absolute.
        assert (a.double() - b).norm() <= tolerance * max(b.norm(), 1.0)


@every_way
def test_matches_reference(way, topk):
    assert_same_value_and_grads(draw(1, 17, 40, 12, 14, 0.3), topk, 1e-6)


def test_matches_reference_at_full_size():
    assert_same_value_and_grads(draw(1, 35, 70, 24, 20, 0.3), None, 1e-6)
    assert_same_value_and_grads(draw(1, 70, 135, 24, 20, 0.3, dtype=torch.float16), None, 2e-3)


@every_way
def test_weights_and_support(way, topk):
    """Values that are the unit vectors give the weights themselves; rows sparse and dense."""
    query, key, _ = draw(1, 20, 40, 10, 1, seed=2)
    query[:, ::2] *= 0.02
    unit = torch.eye(40, device=DEVICE)[None]
    weights = attend((query, key, unit), topk).double()
    exact = query.double(), key.double(), unit.double()
    truth = hspa_attention(*exact, topk=topk, backend="reference")
    torch.testing.assert_close(weights, truth, rtol=0, atol=1e-6)
    assert ((weights > 0) == (truth > 0))[torch.maximum(weights, truth) > 1e-6].all()
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("m", "c", "d"), [(1, 1, 1), (65, 40, 33), (31, 96, 192), (64, 200, 130), (70, 512, 512)]
)
def test_channels_of_any_number(m, c, d):
    assert_same_value_and_grads(draw(1, 2, m, c, d, c**-0.5, dtype=torch.float16), None, 2e-3)


@pytest.mark.parametrize(("m", "c", "d"), [(1, 1, 1), (17, 40, 33), (9, 130, 150)])
def test_channels_of_any_number_in_float32(m, c, d, small):
    assert_same_value_and_grads(draw(1, 2, m, c, d, c**-0.5), None, 1e-6)


@pytest.mark.parametrize(
    ("scored", "mixed", "tolerance"),
    [
        (torch.float16, torch.float16, 2e-3),
        (torch.bfloat16, torch.bfloat16, 1.5e-2),
        (torch.float32, torch.bfloat16, 1e-2),
        (torch.bfloat16, torch.float32, 1e-2),  # gradients of query and key are bfloat16
        (torch.float32, torch.float64, 1e-6),
    ],
    ids=str,
)
def test_dtypes(scored, mixed, tolerance, small, monkeypatch):
    monkeypatch.setattr(_triton_shapes, "DIRECT_KEYS", 0)
    query, key, value = draw(1, 18, 40, 24, 20, 0.3)
    tensors = (query.to(scored), key.to(scored), value.to(mixed))
    assert_same_value_and_grads(tensors, None, tolerance)


@given(
    n=st.integers(1, 18),
    m=st.integers(1, 50),
    c=st.integers(1, 20),
    d=st.integers(1, 20),
    batch=st.integers(1, 2),
    spread=st.sampled_from([0.0, 1e-3, 0.3, 3.0]),
    topk=st.none() | st.integers(1, 20),
    screened=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.generate],  # shrinking would take minutes
)
def test_drawn_shapes(small, n, m, c, d, batch, spread, topk, screened, seed):
    if spread == 0:
        topk = None  # every score ties, and which of them count is free
    tensors = draw(batch, n, m, c, d, spread, seed)
    exact = [t.double() for t in tensors]
    truth = hspa_attention(*exact, topk=topk, backend="reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_triton_shapes, "DIRECT_KEYS", 0 if screened else 4096)
        out = attend(tensors, topk)
    largest = (exact[0] @ exact[1].transpose(1, 2)).abs().max().item()
    torch.testing.assert_close(out.double(), truth, rtol=0, atol=3e-7 * (1 + largest))


@every_way
def test_large_logits(way, topk):
    """Scores of 1e5 whose products are exact in float32, in any order of summation."""
    generator = torch.Generator().manual_seed(1)
    query = torch.randint(-8, 9, (1, 10, 12), generator=generator) * 512.0
    key = torch.randint(-8, 9, (1, 40, 12), generator=generator) + 0.0
    key[:, 20:] = key[:, :20]  # ties at the maximum
    key[:, 25:30, 0] += 2**-10  # and scores that differ from it by less than 1
    value = torch.randn(1, 40, 5, generator=generator)
    assert (query @ key.transpose(1, 2)).amax() > 1e5
    tensors = [t.to(DEVICE) for t in (query, key, value)]
    exact = [t.double() for t in tensors]
    truth = hspa_attention(*exact, topk=topk, backend="reference")
    assert (attend(tensors, topk).double() - truth).norm() < 1e-6 * truth.norm()


def test_equal_scores_share_equally(way):
    query, key, value = draw(1, 8, 100, 4, 3)
    query[:, ::2] = 0  # full support
    key[:, 10:80] = key[:, :1]  # ties of 71 keys
    out = attend((query, key, value))
    exact = query.double(), key.double(), value.double()
    truth = hspa_attention(*exact, backend="reference")
    torch.testing.assert_close(out.double(), truth, rtol=0, atol=1e-6)
    torch.testing.assert_close(out[0, 0], value[0].mean(0), rtol=0, atol=1e-6)


def test_of_ties_at_the_last_place_the_first_keys_count(way):
    """Row 0 ties everywhere; row 1 prefers keys 30-32, then ties; gradients follow."""
    query = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]], device=DEVICE)
    key = torch.zeros(1, 40, 2, device=DEVICE)
    key[:, 30:33, 0] = 0.125
    value = torch.eye(40, device=DEVICE)[None].clone().requires_grad_()
    out = attend((query, key, value), 8)
    low = (1 - 3 * 0.125) / 8
    expected = torch.zeros(2, 40, device=DEVICE)
    expected[0, :8] = 1 / 8
    expected[1, :5] = low
    expected[1, 30:33] = low + 0.125
    torch.testing.assert_close(out[0], expected, rtol=0, atol=1e-7)
    out.sum().backward()  # the gradient of value counts every weight: support and ties alike
    torch.testing.assert_close(value.grad[0, :, 0], expected.sum(0), rtol=0, atol=1e-7)


@infinities
@pytest.mark.parametrize(
    ("way", "topk", "bad"),
    [
        *((*case, torch.nan) for case in SCREENED),
        ("direct", None, torch.inf),
        ("candidates", None, torch.inf),
        ("direct", None, 1e38),
        ("candidates", None, 1e38),
    ],
    indirect=["way"],
)
def test_undefined_queries_are_nan_alone(way, topk, bad):
    query, key, value = draw(2, 6, 20, 4, 3)
    key[0] *= 1e-3
    key[1] *= 16  # times 1e38 this overflows, both ways
    query[1, 5] = 0
    before = attend((query, key, value), topk)
    query[1, 5] = bad
    query.requires_grad_()
    after = attend((query, key, value), topk)
    assert after[1, 5].isnan().all()
    others = torch.ones(2, 6, dtype=torch.bool)
    others[1, 5] = False
    assert torch.equal(after[others], before[others])
    after[others].sum().backward()
    assert query.grad[1, 5].isnan().all()
    assert query.grad[others].isfinite().all()


@infinities
def test_minus_infinity_has_no_weight(way):
    query, key, value = draw(1, 10, 70, 4, 3)
    query = query.abs()
    truth = attend((query, key[:, 1:], value[:, 1:]))
    key[:, 0] = -torch.inf
    torch.testing.assert_close(attend((query, key, value)), truth)
    assert attend((query, torch.full_like(key, -torch.inf), value)).isnan().all()


@infinities
def test_nan_key_undoes_every_row(way):
    query, key, value = draw(1, 10, 70, 4, 3)
    key[:, 33] = torch.nan
    assert attend((query, key, value)).isnan().all()


@pytest.mark.parametrize(("direct", "topk"), [(True, None), (False, None), (False, 7)])
def test_stripes_change_nothing(direct, topk, small, monkeypatch):
    """Scratch memory for fewer queries than an image has: two stripes of each of two images."""
    if not direct:
        monkeypatch.setattr(_triton_shapes, "DIRECT_KEYS", 0)
    screened = _triton_shapes._SINGLE.screen_queries
    tensors = draw(2, screened + 1, 20, 8, 8, 0.3)
    whole = value_and_grads(tensors, topk, "triton")
    monkeypatch.setattr(_triton_shapes, "STRIPE_BYTES", 64)
    tiling = _triton_shapes.tiling_of(*tensors, topk)
    assert len(list(tiling.stripes(2, screened + 1, 4))) == 4
    striped = value_and_grads(tensors, topk, "triton")
    torch.testing.assert_close(striped, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("topk", [None, 5])
def test_width_changes_nothing(topk, small, monkeypatch):
    """Tokens in squares, partial ones too; only where tiles can be skipped are they sorted."""
    tensors = draw(1, 24, 24, 8, 8, 0.3)
    leaves = [t.requires_grad_() for t in tensors]
    plain = value_and_grads(tensors, topk, "triton")
    monkeypatch.setattr(_triton_shapes, "DIRECT_KEYS", 0)
    out = attend(leaves, topk, width=12)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).to(out)
    torch.testing.assert_close(
        [out.detach(), *torch.autograd.grad(out, leaves, weight)], plain, rtol=1e-5, atol=1e-6
    )


def test_non_contiguous():
    tensors = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in draw(2, 9, 40, 6, 5)]
    truth = attend([t.contiguous() for t in tensors])
    assert torch.equal(attend(tensors), truth)
    leaves = [t.requires_grad_() for t in tensors]
    attend(leaves).sum().backward()  # its gradient is expanded, strides 0
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


def test_no_queries_or_no_images():
    query, key, value = (t.requires_grad_() for t in draw(2, 8, 9, 4, 3))
    out = attend((query[:, :0], key, value))
    assert out.shape == (2, 0, 3)
    out.sum().backward()
    assert not key.grad.any()
    assert attend((query[:0], key[:0], value[:0])).shape == (0, 8, 3)


def test_operator_is_well_formed():
    tensors = [t.requires_grad_() for t in draw(1, 6, 40, 3, 5)]
    torch.library.opcheck(
        torch.ops.hspan.attention.default,
        (*tensors, None, 0, True, "triton"),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


def test_refusals_say_why(monkeypatch):
    query, key, value = draw(1, 4, 4, 2, 2)
    with pytest.raises(BackendUnavailable, match=r"triton.*float64"):
        attend((query.double(), key.double(), value))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BackendUnavailable, match=r"triton.*are on cpu.*TRITON_INTERPRET"):
        attend((query.cpu(), key.cpu(), value.cpu()))
    for patched, returns, reason in (
        ("version", "3.1.0", "3.1.0 is too old"),
        ("find_spec", None, "not installed: pip install"),
    ):
        _backends._triton_missing.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(_backends, patched, lambda name, returns=returns: returns)
            with pytest.raises(BackendUnavailable, match=reason):
                attend((query, key, value))
    _backends._triton_missing.cache_clear()

import numpy as np
import pytest
import torch
from torch import nn

from hspan.inference._meter import _copies, _Meter, measure
from hspan.inference._speed import Rate, Speed
from hspan.models import create_model
from hspan.ops import hspa_attention
from hspan.ops._backends import BACKENDS, Call

CPU = torch.device("cpu")
COUNTING = Speed(1.0, compiled=Rate(1.0, 0.0, 0.0), plain=Rate(2.0, 0.0, 0.0))
"""With one operation a second, seconds are operations; the attention in PyTorch takes half."""


def test_convolutions_are_linear_and_counted_exactly():
    conv = nn.Conv2d(3, 10, 3, padding=1)
    cost = measure(conv, CPU)
    for pixels in (16**2, 100**2, 5000**2):
        assert cost.peak(pixels) == pytest.approx(pixels * 10 * 4, rel=1e-6)
        assert cost.seconds(pixels, COUNTING) == pytest.approx(pixels * 2 * 3 * 10 * 9, rel=1e-6)


def test_freed_results_are_not_counted():
    def chain(x):
        for _ in range(20):
            x = x * 1.5  # at most two of them are alive
        return x

    assert measure(chain, CPU).peak(10**6) == pytest.approx(2 * 3 * 4 * 10**6, rel=1e-6)


def test_dense_attention_is_quadratic():
    def attend(x):
        tokens = x.flatten(2)  # [1, 3, N]
        scores = tokens.transpose(1, 2) @ tokens  # [1, N, N]
        return (tokens @ scores).view_as(x)

    cost = measure(attend, CPU)
    pixels = 100**2
    assert cost.peak(pixels) == pytest.approx(4 * pixels**2, rel=0.01)
    assert cost.seconds(pixels, COUNTING) == pytest.approx(2 * 2 * 3 * pixels**2, rel=1e-6)


@pytest.mark.parametrize("backend", ["native", "screened"])
def test_own_attention_is_linear_in_memory_and_quadratic_in_time(backend):
    if BACKENDS[backend].why_not(Call("cpu", torch.float32)):
        pytest.skip("no compiled kernels")

    def attend(x):
        tokens = x.flatten(2).transpose(1, 2)  # [1, N, 3]
        mixed = hspa_attention(tokens, tokens, tokens, backend=backend)
        return mixed.transpose(1, 2).reshape(x.shape)

    cost = measure(attend, CPU)
    small, large = 200**2, 400**2
    assert cost.peak(large) < 4.5 * cost.peak(small)
    expected = 2 * 3 * large**2 * (1.0 if backend == "native" else 0.5)
    assert cost.seconds(large, COUNTING) == pytest.approx(expected, rel=1e-6)


def test_compiled_attention_copies_what_it_cant_read():
    """Contiguous float32 tokens are read where they lie; others, and bf16 results, are copied."""
    tokens = torch.rand(1, 64, 8)
    assert _copies(tokens, tokens, tokens) == 0
    assert (
        _copies(tokens, tokens, tokens.transpose(1, 2).contiguous().transpose(1, 2)) == 64 * 8 * 4
    )
    narrow = tokens.bfloat16()
    assert _copies(narrow, narrow, narrow) == 4 * 64 * 8 * 4
    assert _copies(tokens, tokens, tokens.double()) == 2 * 64 * 8 * 8


def test_operators_that_depend_on_the_size():
    def halving(x):
        for _ in range(x.shape[-1] // 8):
            x = x + 1
        return x

    assert measure(halving, CPU).peak(10**6) == pytest.approx(2 * 3 * 4 * 10**6, rel=0.01)


@pytest.mark.parametrize("name", ["hspan-light", "hspan-s"])
def test_extrapolates_what_larger_images_show(name):
    """From 32×32 down to 16×16 the cost of 64×64 follows to the byte."""
    config = {"channels": 8} if name == "hspan-light" else {"channels": 8, "num_modules": 5}
    network = create_model(name, scale=2, **config).eval()
    cost = measure(network, CPU)
    image, meter = torch.full((1, 3, 64, 64), 0.5), _Meter(64 * 64)
    with torch.no_grad(), meter:
        network(image)
    watched = np.array([1.0, 64.0**2, 64.0**4]) @ cost.live
    assert watched.tolist() == pytest.approx(meter.live, rel=1e-6)
    assert cost.peak(64 * 64) >= max(meter.live)


def test_is_the_same_every_time(local):
    first, second = (measure(local(3, 2), CPU) for _ in range(2))
    assert first.peak(12345) == second.peak(12345)
    assert first.seconds(12345, COUNTING) == second.seconds(12345, COUNTING)

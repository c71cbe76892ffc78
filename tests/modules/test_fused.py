"""Fused convolutions: the numbers of the plain ones, and nobody who looks on misses a call."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hspan.models import create_model
from hspan.modules import fused
from hspan.modules.fused import conv_add, conv_relu

CONVOLUTIONS = {
    "3x3": {"kernel_size": 3, "padding": 1},
    "1x1": {"kernel_size": 1},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 2},
    "no bias": {"kernel_size": 3, "padding": 1, "bias": False},
    "replicate": {"kernel_size": 3, "padding": 1, "padding_mode": "replicate"},
    "same": {"kernel_size": 3, "padding": "same"},
}
FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture
def calls(monkeypatch):
    """How often oneDNN was asked to fuse."""
    count = [0]
    geometry = fused._geometry

    def counted(conv):
        count[0] += 1
        return geometry(conv)

    monkeypatch.setattr(fused, "_geometry", counted)
    return count


def fuses(dtype=torch.float32):
    return fused._has_operator(dtype)


def draw(options, memory_format=torch.contiguous_format):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 4, **options).to(memory_format=memory_format)
    x, other = torch.randn(2, 2, 4, 9, 7).unbind(0)
    return conv, x.to(memory_format=memory_format), other.to(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@torch.no_grad()
def test_float32_as_in_two_steps(options, memory_format):
    conv, x, other = draw(options, memory_format)
    torch.testing.assert_close(conv_relu(conv, x), conv(x).relu())
    torch.testing.assert_close(conv_add(conv, x, other), conv(x) + other)


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@torch.no_grad()
def test_autocast_rounds_once(options):
    conv, x, other = draw(options)
    exact = conv(x) + other.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        relu, total = conv_relu(conv, x), conv_add(conv, x, other.bfloat16())
        torch.testing.assert_close(relu, conv(x).relu())
    assert relu.dtype == total.dtype == torch.bfloat16
    torch.testing.assert_close(total.float(), exact, rtol=2**-7, atol=2**-6)


@torch.no_grad()
def test_a_wider_summand_keeps_its_precision():
    conv, x, other = draw({"kernel_size": 1})
    with torch.autocast("cpu", torch.bfloat16):
        assert conv_add(conv, x, other).dtype == torch.float32


@torch.no_grad()
def test_nan_stays():
    conv, x, other = draw({"kernel_size": 1})
    x[0, 0, 3, 3] = torch.nan
    for out in (conv_relu(conv, x), conv_add(conv, x, other)):
        assert out[0, :, 3, 3].isnan().all()
        assert out.isnan().sum() == 4


@pytest.mark.skipif(not fuses(), reason="this torch has no such operator")
@torch.no_grad()
def test_it_is_fused(calls):
    conv, x, other = draw({"kernel_size": 3, "padding": 1})
    conv_add(conv, conv_relu(conv, x), other)
    assert calls == [1]


def test_gradients_flow_in_training(calls):
    conv, x, other = draw({"kernel_size": 3, "padding": 1})
    conv_add(conv, conv_relu(conv, x), other).sum().backward()
    assert conv.weight.grad is not None
    assert calls == [0]


@torch.no_grad()
def test_hooks_see_their_module(calls):
    conv, x, _ = draw({"kernel_size": 3, "padding": 1})
    seen = []
    with conv.register_forward_hook(lambda module, args, out: seen.append(out)):
        conv_add(conv, x, x)
    assert len(seen) == 1
    assert calls == [0]


@torch.no_grad()
def test_counters_see_a_convolution(calls):
    conv, x, other = draw({"kernel_size": 3, "padding": 1})
    with FlopCounterMode(display=False) as counter:
        conv_add(conv, x, other)
    assert counter.get_total_flops() == 2 * 2 * 4 * 4 * 9 * 9 * 7
    assert calls == [0]


@torch.no_grad()
def test_vmap(calls):
    conv, x, _ = draw({"kernel_size": 3, "padding": 1})
    many = torch.vmap(lambda image: conv_add(conv, image[None], image[None])[0])(x)
    torch.testing.assert_close(many, conv_add(conv, x, x))
    assert calls == [1 if fuses() else 0]


@torch.no_grad()
def test_other_numbers_are_left_to_torch(calls):
    conv, x, _ = draw({"kernel_size": 1})
    x = x.double()
    torch.testing.assert_close(conv_add(conv.double(), x, x), conv(x) + x)
    assert calls == [0]


@torch.no_grad()
def test_a_torch_without_the_operator(monkeypatch):
    class Missing:
        def __getattr__(self, name):
            raise AttributeError(name)

    monkeypatch.setattr(torch.ops, "mkldnn", Missing())
    fused._has_operator.cache_clear()
    try:
        conv, x, other = draw({"kernel_size": 1})
        torch.testing.assert_close(conv_add(conv, x, other), conv(x) + other)
    finally:
        fused._has_operator.cache_clear()


@pytest.mark.parametrize("name", ["hspan-light", "edsr-baseline"])
def test_networks_compute_the_same(name):
    network = create_model(name, scale=2).eval()
    x = torch.rand(1, 3, 17, 14)
    with torch.no_grad():
        fast = network(x)
    torch.testing.assert_close(fast, network(x).detach(), rtol=1e-5, atol=1e-5)

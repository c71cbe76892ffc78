"""Every network of the registry: sizes, parameters, gradients."""

import pytest
import torch

from hspan import create_model
from hspan.models import MODELS

SMALL = {  # settings that keep a forward pass under a tenth of a second
    "hspan": {"channels": 8, "num_modules": 2},
    "hspan-s": {"channels": 8, "num_modules": 5},
    "hspan-light": {"channels": 8, "num_blocks": 3, "attention_after": (1,)},
    "bicubic": {},
    "spmsr": {"patch": 3, "lr_atoms": 6, "hr_atoms": 8},
    "srcnn": {"channels": (8, 4)},
    "fsrcnn": {"channels": 8, "inner_channels": 4, "num_mappings": 2},
    "vdsr": {"channels": 8, "num_layers": 4},
    "ircnn": {"channels": 8, "iterations": 2, "projections": 2},
    "lapsrn": {"channels": 8, "depth": 2},
    "memnet": {"channels": 8, "num_blocks": 2, "num_recursions": 2},
    "memnet-shared": {"channels": 8, "num_blocks": 2, "num_recursions": 2},
    "srmd": {"channels": 8, "num_layers": 4},
    "srmdnf": {"channels": 8, "num_layers": 4},
}

# Trainable parameters of the authors' program, PAPER's table (×2, ×3, ×4); it counts one scalar
# more, which nothing uses. HSPAN-S: nine HSPA blocks of 74,115 less.
PARAMETERS = {
    "hspan": (32_288_673, 33_948_513, 33_616_545),
    "hspan-s": (31_621_638, 33_281_478, 32_949_510),
    "bicubic": (0, 0, 0),
    "srcnn": (57_281,) * 3,
    "fsrcnn": (12_644,) * 3,
    "vdsr": (665_921,) * 3,
    "ircnn": (188_163,) * 3,
    "lapsrn": (435_344, 870_112, 870_112),
    "memnet": (2_910_537,) * 3,
    "srmd": (1_511_692, 1_528_987, 1_553_200),
    "srmdnf": (1_510_540, 1_527_835, 1_552_048),
}


def small(name, scale=2):
    torch.manual_seed(0)
    return create_model(name, scale=scale, **SMALL[name])


def test_every_network_is_covered():
    assert set(SMALL) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (7, 10)])
def test_output_size(name, scale, size):
    model = small(name, scale).eval()
    out = model(torch.rand(2, 3, *size))
    assert out.shape == (2, 3, scale * size[0], scale * size[1])
    assert model.config.scale == scale


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count(name):
    for scale, expected in zip((2, 3, 4), PARAMETERS[name], strict=True):
        with torch.device("meta"):
            model = create_model(name, scale=scale)
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_light_is_light(scale):
    model = create_model("hspan-light", scale=scale)
    assert sum(p.numel() for p in model.parameters()) <= 1_000_000
    assert any(type(m).__name__ == "HSPA" for m in model.modules())


@pytest.mark.parametrize("name", MODELS)
def test_gradient_reaches_every_parameter(name):
    model = small(name)
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    model(x).square().mean().backward()
    assert x.grad is not None
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", MODELS)
def test_batch_is_independent_images(name):
    model = small(name).eval()
    x = torch.rand(2, 3, 9, 8)
    torch.testing.assert_close(model(x)[1:], model(x[1:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_compiles_without_graph_breaks(name):
    model = small(name).eval()
    x = torch.rand(1, 3, 8, 8)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize("name", MODELS)
def test_autocast_gives_nearly_the_same(name):
    model = small(name).eval()
    x = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        plain = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            low = model(x)
    assert (low.float() - plain).abs().max() < 0.03

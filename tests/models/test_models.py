"""Every network of the registry: sizes, parameters, gradients."""

import re

import pytest
import torch

from hspan import WeightsError, create_model, load_model, save_model
from hspan.models import MODELS, registry_name
from hspan.weights.official import recognise

SMALL = {  # settings that keep a forward pass under a tenth of a second
    "hspan": {"channels": 8, "num_modules": 2},
    "hspan-s": {"channels": 8, "num_modules": 5},
    "hspan-light": {"channels": 8, "num_blocks": 3, "attention_after": (1,)},
    "edsr": {"channels": 8, "num_blocks": 2},
    "edsr-baseline": {"channels": 8, "num_blocks": 2},
    "dbpn": {"channels": 4, "shallow_channels": 8, "num_stages": 4},
    "dbpn-ll": {"channels": 4, "shallow_channels": 8, "num_stages": 5},
    "dbpn-res-mr64-3": {"channels": 4, "shallow_channels": 8, "num_stages": 3},
    "rdn": {"channels": 8, "growth": 6, "num_blocks": 2, "num_layers": 3},
    "rcan": {"channels": 8, "num_groups": 2, "num_blocks": 2, "reduction": 2},
    "oisr-rk2-s": {"channels": 8, "num_blocks": 2},
    "oisr-lf-s": {"channels": 8, "num_blocks": 2},
    "oisr-rk2-m": {"channels": 8, "num_blocks": 2},
    "oisr-lf-m": {"channels": 8, "num_blocks": 2},
    "oisr-rk3": {"channels": 8, "num_blocks": 2},
    "drln": {"channels": 8, "cascades": (1, 3), "reduction": 1},
    "han": {"channels": 8, "num_groups": 2, "num_blocks": 2, "reduction": 2},
    "swinir": {"channels": 8, "depths": (2,), "num_heads": 2, "window": 4, "drop_path": 0},
    "swinir-light": {"channels": 8, "depths": (2,), "num_heads": 2, "window": 4, "drop_path": 0},
    "san": {"channels": 8, "num_groups": 2, "num_blocks": 1, "reduction": 2},
    "rnan": {"channels": 8, "num_blocks": 3},
    "csnln": {"channels": 8, "depth": 2},
    "ignn": {"channels": 8, "num_blocks": 2},
    "nlsn": {"channels": 8, "num_blocks": 2, "interval": 2, "chunk": 36, "rounds": 2},
    "enlcn": {"channels": 8, "num_blocks": 2, "interval": 2, "projections": 16},
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
    "edsr": (40_729_603, 43_680_003, 43_089_923),
    "edsr-baseline": (1_369_859, 1_554_499, 1_517_571),
    "dbpn": (5_953_526, None, 10_426_358),
    "dbpn-ll": (8_811_086, None, 15_348_302),
    "dbpn-res-mr64-3": (5_946_614, None, 10_419_446),
    "rdn": (22_123_395, 22_308_035, 22_271_107),
    "rcan": (15_444_667, 15_629_307, 15_592_379),
    "oisr-rk2-s": (1_371_939, 1_556_579, 1_519_651),
    "oisr-lf-s": (1_371_963, 1_556_603, 1_519_675),
    "oisr-rk2-m": (4_971_535, 5_641_925, 5_507_847),
    "oisr-lf-m": (4_971_559, 5_641_949, 5_507_871),
    "oisr-rk3": (41_926_793, 44_877_193, 44_287_113),
    "drln": (34_430_131, 34_614_771, 34_577_843),
    "han": (15_924_033, 16_108_673, 16_071_745),
    "swinir": (11_752_487, 11_937_127, 11_900_199),
    "swinir-light": (910_152, 918_267, 929_628),
    "san": (15_712_800, 15_897_440, 15_860_512),
    "rnan": (9_107_291, 9_291_931, 9_255_003),
    "csnln": (3_061_265, 6_010_385, 6_568_603),
    "ignn": (47_113_477, 50_063_877, 49_473_797),
    "nlsn": (41_796_163, 44_746_563, 44_156_483),
    "enlcn": (41_223_043, 44_173_443, 43_583_363),
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

# What the authors' program holds and counts, but doesn't compute with.
UNUSED = {
    "drln": r"cascades\.1\.fusions\.0\.(weight|bias)",
    "san": r"(conv|unused\.(reduce|expand))\.(weight|bias)|unused\.group_scales",
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
        if expected is None:  # the authors have no network of this scale
            continue
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
    for parameter in model.parameters():
        if not parameter.any():  # a gate that is closed before training lets nothing through
            torch.nn.init.constant_(parameter, 0.1)
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    model(x).square().mean().backward()
    assert x.grad is not None
    for key, parameter in model.named_parameters():
        if not parameter.requires_grad or re.fullmatch(UNUSED.get(name, ""), key):
            assert parameter.grad is None
            continue
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


@pytest.mark.parametrize("name", MODELS)
def test_saves_and_loads(name, tmp_path):
    model = small(name, 4).eval()
    save_model(model, tmp_path / "n.safetensors", name=name)
    again = load_model(tmp_path / "n.safetensors")
    x = torch.rand(1, 3, 9, 8)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
    assert (type(again), again.config) == (type(model), model.config)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "bicubic"])
def test_refuses_a_wrong_checkpoint(name, tmp_path):
    tensors = small(name).state_dict()
    first = next(iter(tensors))
    torch.save({**tensors, "alien.weight": torch.zeros(1)}, tmp_path / "more.pt")
    tensors["alien.weight"] = tensors.pop(first)
    torch.save(tensors, tmp_path / "other.pt")
    for file, named in (("more.pt", ["alien"]), ("other.pt", ["alien", first])):
        with pytest.raises(WeightsError) as raised:
            load_model(tmp_path / file, name=name, scale=2, **SMALL[name])
        assert all(key in str(raised.value) for key in named)


@pytest.mark.parametrize("name", MODELS)
def test_own_keys_are_no_published_programs(name):
    with torch.device("meta"):
        tensors = create_model(name, scale=4).state_dict()
    assert recognise(tensors) is None


@pytest.mark.parametrize("name", MODELS)
def test_knows_its_own_name(name):
    with torch.device("meta"):
        assert registry_name(create_model(name, scale=4)) == name

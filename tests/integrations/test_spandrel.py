"""spandrel loads our weights and the authors', and computes what we compute.

Needs spandrel, and so torchvision, which the development installation leaves out:
docs/integrations.md says how these tests were run.
"""

import importlib.util
from pathlib import Path

import pytest
import torch

spandrel = pytest.importorskip("spandrel")

from hspan import create_model, load_model, save_model  # noqa: E402
from hspan.integrations.spandrel import install  # noqa: E402
from hspan.weights import shipped_weights  # noqa: E402

ROOT = Path(__file__).parents[2]

# spandrel opens a .pt as TorchScript before anything else.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.load.*:DeprecationWarning")

_SPEC = importlib.util.spec_from_file_location(
    "official", ROOT / "tests" / "weights" / "official" / "test_hspan.py"
)


def official_weights(*args, **kwargs):
    """The authors' layout, as the tests of ``load_model`` write it."""
    module = importlib.util.module_from_spec(_SPEC)
    _SPEC.loader.exec_module(module)
    return module.official_weights(*args, **kwargs)


@pytest.fixture
def loader():
    registry = spandrel.MAIN_REGISTRY.copy()
    assert install(registry) == ["HSPAN", "HSPAN-light"]
    return spandrel.ModelLoader(registry=registry)


def assert_same(descriptor, network, size=(19, 23)):
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(descriptor(image), network(image).clamp(0, 1))
    assert descriptor.scale == network.config.scale


def test_shipped_weights(loader):
    (weight, *_) = [w for w in shipped_weights().values() if w.model == "hspan-light"]
    descriptor = loader.load_from_file(weight.path)
    assert descriptor.architecture.id == "HSPAN-light"
    assert_same(descriptor, load_model(weight.path, device="cpu"))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("value_range", [1.0, 255.0])
def test_authors_checkpoints(loader, tmp_path, scale, value_range):
    path = tmp_path / "HSPAN.pt"
    torch.save(official_weights(scale, value_range), path)
    descriptor = loader.load_from_file(path)
    assert descriptor.architecture.id == "HSPAN"
    assert_same(descriptor, load_model(path, device="cpu"))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("hspan", {"channels": 8, "num_modules": 3, "num_blocks": 1, "topk": None}),
        ("hspan", {"channels": 8, "num_modules": 2, "scale": 4, "reduction": 4, "topk": None}),
        ("hspan-s", {"channels": 8, "num_modules": 5, "num_blocks": 1, "topk": None}),
        ("hspan-light", {"channels": 8, "num_blocks": 3, "scale": 3}),
        ("hspan-light", {"channels": 8, "num_blocks": 4, "attention_after": (0, 2, 4)}),
    ],
)
def test_our_checkpoints_of_any_size(loader, tmp_path, name, settings):
    torch.manual_seed(0)
    network = create_model(name, **settings).eval()
    save_model(network, tmp_path / "x.safetensors", name=name)
    descriptor = loader.load_from_file(tmp_path / "x.safetensors")
    assert descriptor.model.config == network.config
    assert_same(descriptor, network)


def test_half_precision(loader, tmp_path):
    torch.manual_seed(0)
    network = create_model("hspan-light", channels=8, num_blocks=1).eval()
    save_model(network, tmp_path / "x.safetensors", name="hspan-light")
    descriptor = loader.load_from_file(tmp_path / "x.safetensors").bfloat16()
    image = torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = descriptor(image.bfloat16()).float() - network(image).clamp(0, 1)
    assert difference.abs().max() < 0.03


def test_other_networks_are_still_recognised_as_before(loader):
    """Ours are asked first, and must not take what isn't theirs."""
    for name in ("edsr-baseline", "rcan", "swinir-light", "san", "rnan", "csnln"):
        keys = create_model(name).state_dict()
        ours = [s.detect(keys) for s in loader.registry if s.architecture.id.startswith("HSPAN")]
        assert ours == [False, False], name


def test_install_twice_and_comfyui_folder():
    install()
    assert install() == []
    path = ROOT / "integrations" / "comfyui" / "__init__.py"
    spec = importlib.util.spec_from_file_location("hspan_comfyui", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.NODE_CLASS_MAPPINGS == {}
    assert "HSPAN" in spandrel.MAIN_REGISTRY

import hashlib

import pytest
import torch

from hspan.errors import UsageError, WeightsError
from hspan.models import create_model
from hspan.weights import _shipped, load_model, save_model, shipped_weights, weights_hash

FILES = ("2x_hspan", "4x_hspan", "3x_hspan_BD")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A package with weights of small networks; the scale is in the name."""
    monkeypatch.setattr(_shipped, "FOLDER", tmp_path)
    for stem in FILES:
        torch.manual_seed(int(stem[0]))
        network = create_model("hspan", scale=int(stem[0]), channels=8, num_modules=1)
        path = tmp_path / f"{stem}.safetensors"
        save_model(network, path, name="hspan", metadata={"steps": 7})
    return tmp_path


def test_listed_with_what_their_headers_say(folder):
    weights = shipped_weights()
    assert sorted(weights) == sorted(FILES)
    weight = weights["3x_hspan_BD"]
    assert (weight.model, weight.scale, weight.kind) == ("hspan", 3, "BD")
    assert (weight.name, weight.provenance) == ("3x_hspan_BD", {"steps": 7})
    assert weight.config["channels"] == 8
    content = weight.path.read_bytes()
    assert weight.bytes == len(content)
    assert weight.sha256 == hashlib.sha256(content).hexdigest()
    assert weight.hash == weights_hash(weight.path)


@pytest.mark.parametrize(
    ("source", "scale", "loaded"),
    [
        ("hspan", None, "2x_hspan"),
        ("hspan", 4, "4x_hspan"),
        ("3x_hspan_BD", None, "3x_hspan_BD"),
    ],
)
def test_loaded_by_name(folder, source, scale, loaded):
    model = load_model(source, scale=scale)
    assert weights_hash(model) == shipped_weights()[loaded].hash


def test_what_isnt_shipped(folder):
    with pytest.raises(UsageError, match=r"no weights of hspan ×3.*hspan ×2 \(BI\)"):
        load_model("hspan", scale=3)
    with pytest.raises(UsageError, match="no weights of hspan-s come with the package"):
        load_model("hspan-s")


def test_a_damaged_installation(folder):
    (folder / "2x_hspan.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match="2x_hspan"):
        shipped_weights()


def test_every_weight_in_the_package_is_sound():
    assert "2x_hspan-light" in shipped_weights()
    for weight in shipped_weights().values():
        assert weight.path.with_suffix(".md").is_file(), "no model card"
        assert load_model(weight.name, device="cpu").config.scale == weight.scale

import json

import pytest
import torch
from safetensors import safe_open
from torch import nn

from hspan.errors import InputError, UsageError, WeightsError
from hspan.weights import load_model, save_model


def header(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def test_round_trip_restores_network_and_configuration(tmp_path, network):
    path = tmp_path / "3x.safetensors"
    save_model(network, path, name="hspan")
    loaded = load_model(path, device="cpu")
    assert type(loaded) is type(network)
    assert loaded.config == network.config
    assert not loaded.training
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_metadata_says_what_the_file_holds(tmp_path, network):
    path = tmp_path / "3x.safetensors"
    provenance = {"steps": 6, "scores": {"Set5": {"psnr": 37.6, "ssim": 0.959}}}
    licence = {"modelspec.license": "Apache-2.0", "modelspec.title": "A title"}
    save_model(network, path, name="hspan", metadata=provenance | licence)
    entries = header(path)
    assert entries["hspan.model"] == entries["modelspec.architecture"] == "hspan"
    assert json.loads(entries["hspan.config"])["num_modules"] == 2
    assert json.loads(entries["hspan.provenance"]) == provenance
    assert entries["modelspec.license"] == "Apache-2.0"
    assert entries["modelspec.title"] == "A title"


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path, network):
    paths = [tmp_path / f"{name}.safetensors" for name in ("full", "half")]
    save_model(network, paths[0], name="hspan")
    save_model(network, paths[1], name="hspan", dtype=torch.float16)
    sizes = [path.stat().st_size for path in paths]
    parameters = sum(p.numel() for p in network.parameters())
    assert sizes[0] - sizes[1] == pytest.approx(2 * parameters, abs=600)
    loaded = load_model(paths[1])
    for key, value in network.state_dict().items():
        assert loaded.state_dict()[key].dtype == torch.float32
        assert torch.equal(loaded.state_dict()[key], value.half().float())


def test_weights_too_large_for_half_precision(tmp_path, network):
    with torch.no_grad():
        network.head.weight[0, 0, 0, 0] = 1e6
    with pytest.raises(WeightsError, match=r"head\.weight is too large"):
        save_model(network, tmp_path / "x.safetensors", name="hspan", dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []


def test_replaces_an_existing_file_and_leaves_nothing_else(tmp_path, network):
    path = tmp_path / "x.safetensors"
    path.write_text("old")
    save_model(network, path, name="hspan")
    assert load_model(path).config == network.config
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path, network, monkeypatch):
    path = tmp_path / "x.safetensors"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(InputError, match="disk full"):
        save_model(network, path, name="hspan")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_impossible_calls(tmp_path, network):
    with pytest.raises(UsageError, match=r"\.safetensors"):
        save_model(network, tmp_path / "x.pth", name="hspan")
    with pytest.raises(UsageError, match="Linear has no config"):
        save_model(nn.Linear(1, 1), tmp_path / "x.safetensors", name="hspan")
    with pytest.raises(UsageError, match="did you mean hspan-light"):
        save_model(network, tmp_path / "x.safetensors", name="hspan-lite")
    with pytest.raises(InputError, match="can't be written"):
        save_model(network, tmp_path / "missing" / "x.safetensors", name="hspan")

import pytest
import torch

from hspan.errors import WeightsError
from hspan.weights import load_model, save_model, weights_hash


def test_same_weights_same_hash_in_every_container(tmp_path, network):
    torch.save({"params_ema": network.state_dict()}, tmp_path / "x.pth")
    backwards = dict(reversed(network.state_dict().items()))
    torch.save({f"module.{k}": v for k, v in backwards.items()}, tmp_path / "y.pth")
    save_model(network, tmp_path / "x.safetensors", name="hspan")
    loaded = load_model(tmp_path / "x.safetensors")
    sources = (loaded, tmp_path / "x.pth", str(tmp_path / "y.pth"), tmp_path / "x.safetensors")
    assert {weights_hash(source) for source in sources} == {weights_hash(network)}
    assert len(weights_hash(network)) == 12


def test_stored_precision_counts_only_by_its_values(tmp_path, network):
    path = tmp_path / "x.safetensors"
    save_model(network, path, name="hspan", dtype=torch.float16)
    assert weights_hash(path) == weights_hash(load_model(path)) != weights_hash(network)


def test_one_weight_changes_it(network):
    before = weights_hash(network)
    with torch.no_grad():
        network.head.bias[0] += 1e-6
    assert weights_hash(network) != before


def test_bfloat16_can_be_hashed(network):
    assert weights_hash(network.bfloat16()) == weights_hash(network.float())


def test_a_file_that_differs_from_its_own_hash_is_damaged(tmp_path, network):
    path = tmp_path / "x.safetensors"
    save_model(network, path, name="hspan")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1  # in the middle of the last weight
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is damaged: its weights don't have the hash"):
        load_model(path)

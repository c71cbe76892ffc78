"""Anybody's checkpoint as a file that says what it is."""

import hashlib
import json

import pytest
import torch

from hspan.errors import InputError, UsageError, WeightsError
from hspan.models import config_dict, create_model
from hspan.weights import convert_checkpoint, load_model
from hspan.weights._container import read_metadata

SMALL = {"channels": 8, "num_modules": 1, "num_blocks": 1}


@pytest.fixture
def official(tmp_path):
    """HSPAN ×3 under the authors' names, which tell everything but the residual scale."""
    torch.manual_seed(0)
    ours = create_model("hspan", scale=3, **SMALL).state_dict()
    stems = {
        "head": "head.0",
        "body.0.leb.0.conv1": "body.0.body.0.body.0",
        "body.0.leb.0.conv2": "body.0.body.0.body.2",
        "body.0.attention.query.0": "body.0.body.1.conv_match1.0",
        "body.0.attention.query.1": "body.0.body.1.conv_match1.1",
        "body.0.attention.key.0": "body.0.body.1.conv_match2.0",
        "body.0.attention.key.1": "body.0.body.1.conv_match2.1",
        "body.0.attention.value.0": "body.0.body.1.conv_assembly.0",
        "body.0.attention.value.1": "body.0.body.1.conv_assembly.1",
        "body.0.conv": "body.0.body.2",
        "conv": "body.1",
        "upsampler.0": "tail.0.0",
        "tail": "tail.1",
    }
    tensors = {f"{stems[k.rpartition('.')[0]]}.{k.rpartition('.')[2]}": v for k, v in ours.items()}
    mean = torch.tensor([0.4488, 0.4371, 0.4040])
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        tensors[f"{name}.weight"] = torch.eye(3).view(3, 3, 1, 1)
        tensors[f"{name}.bias"] = sign * 255 * mean
    torch.save({"state_dict": tensors}, tmp_path / "official.pt")
    return tmp_path / "official.pt"


def test_computes_the_same_bits(official, tmp_path):
    target = tmp_path / "ours.safetensors"
    network = convert_checkpoint(official, target, residual_scale=0.25)
    again = load_model(target)
    x = torch.rand(1, 3, 6, 7)
    assert torch.equal(again(x), network(x))
    assert torch.equal(again(x), load_model(official, residual_scale=0.25)(x))
    assert config_dict(again) == config_dict(network)
    assert (again.config.scale, again.config.residual_scale) == (3, 0.25)


def test_says_where_it_comes_from(official, tmp_path):
    convert_checkpoint(official, tmp_path / "ours.safetensors")
    header = read_metadata(tmp_path / "ours.safetensors")
    assert header["hspan.model"] == "hspan"
    assert json.loads(header["hspan.provenance"]) == {
        "converted_from": "official.pt",
        "sha256": hashlib.sha256(official.read_bytes()).hexdigest(),
    }
    assert {p.name for p in tmp_path.iterdir()} == {"official.pt", "ours.safetensors"}


def test_what_the_file_cannot_tell(tmp_path):
    torch.manual_seed(0)
    network = create_model("hspan", scale=2, **SMALL).eval()
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match="say which"):
        convert_checkpoint(tmp_path / "mine.pth", tmp_path / "a.safetensors")
    convert_checkpoint(
        tmp_path / "mine.pth", tmp_path / "a.safetensors", name="hspan", scale=2, **SMALL
    )
    x = torch.rand(1, 3, 5, 5)
    assert torch.equal(load_model(tmp_path / "a.safetensors")(x), network(x))


def test_never_replaces_unasked(official, tmp_path):
    target = tmp_path / "ours.safetensors"
    target.write_bytes(b"precious")
    with pytest.raises(InputError, match="--overwrite"):
        convert_checkpoint(official, target)
    assert target.read_bytes() == b"precious"
    convert_checkpoint(official, target, overwrite=True)
    with pytest.raises(UsageError, match="the source itself"):
        convert_checkpoint(target, target, overwrite=True)


def test_a_failure_leaves_nothing(official, tmp_path):
    (tmp_path / "broken.pt").write_bytes(official.read_bytes()[:1000])
    for source, target, error in (
        ("broken.pt", "x.safetensors", WeightsError),
        ("none.pt", "x.safetensors", InputError),
        ("hspan-light", "x.safetensors", InputError),
        ("official.pt", "x.pt", UsageError),
        ("official.pt", "no/x.safetensors", InputError),
    ):
        with pytest.raises(error):
            convert_checkpoint(tmp_path / source, tmp_path / target)
    assert {p.name for p in tmp_path.iterdir()} == {"official.pt", "broken.pt"}

import pickle
import struct

import pytest
import torch
from safetensors.torch import save_file

from hspan.errors import InputError, WeightsError
from hspan.weights import load_model, save_model
from hspan.weights._container import read_checkpoint, read_metadata

TENSORS = {"a.weight": torch.arange(3.0), "b.weight": torch.ones(2, 2)}


def same(checkpoint):
    tensors = checkpoint.tensors
    return tensors.keys() == TENSORS.keys() and all(
        torch.equal(tensors[key], value) for key, value in TENSORS.items()
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: t,
        lambda t: {"state_dict": t, "epoch": 4},
        lambda t: {"params": {"c": torch.zeros(1)}, "params_ema": t},
        lambda t: {"model": {"state_dict": t}},
        lambda t: {"net": {f"module.{k}": v for k, v in t.items()}},
        lambda t: {"state_dict": {f"model._orig_mod.{k}": v for k, v in t.items()}},
    ],
    ids=["bare", "state_dict", "params_ema", "nested", "module", "compiled"],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_wrappers_are_removed(tmp_path, wrap, zipped):
    path = tmp_path / "weights"  # the content says what it is, not the name
    torch.save(wrap(TENSORS), path, _use_new_zipfile_serialization=zipped)
    assert same(read_checkpoint(path))


def test_wrappers_in_safetensors_are_prefixes(tmp_path):
    path = tmp_path / "x.pth"
    averaged = {f"params_ema.module.{k}": v for k, v in TENSORS.items()}
    save_file(averaged | {"params.a.weight": torch.zeros(3)}, path)
    assert same(read_checkpoint(path))


class Exploit:
    """What a hostile pickle looks like: a call to make while it is read."""

    def __reduce__(self):
        return (open, ("exploited", "w"))


@pytest.mark.parametrize("write", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_code_in_a_pickle_is_never_run(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pth"
    write({"params": Exploit()}, path)
    with pytest.raises(WeightsError, match="holds Python objects besides tensors"):
        read_checkpoint(path)
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is a text", "isn't a checkpoint"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "isn't a checkpoint"),
        (b"PK\x03\x04" + bytes(60), "not readable as a PyTorch checkpoint"),
        (struct.pack("<Q", 40) + b"{" + bytes(60), "damaged or incomplete safetensors"),
    ],
    ids=["empty", "text", "png", "zip", "safetensors"],
)
def test_no_checkpoint(tmp_path, content, message):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load_model(path, name="hspan")


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_truncated(tmp_path, network, kind, kept):
    path = tmp_path / f"x.{kind}"
    if kind == "pth":
        torch.save(network.state_dict(), path)
    else:
        save_model(network, path, name="hspan")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(WeightsError, match="damaged"):
        load_model(path, name="hspan")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "holds a Tensor, not a dictionary"),
        ([torch.zeros(3)], "holds a list"),
        ({"epoch": 3, "loss": 0.1}, r"no plain dictionary of tensors \(found: epoch, loss\)"),
        ({}, r"found: nothing"),
        ({"params": {}}, r"found: nothing"),
    ],
)
def test_files_without_weights(tmp_path, content, message):
    path = tmp_path / "x.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint file"):
        load_model(tmp_path / "x.pth")
    with pytest.raises(InputError, match="is a folder"):
        load_model(tmp_path)
    with pytest.raises(InputError, match="no such checkpoint file"):
        read_metadata(tmp_path / "x.pth")


def test_metadata_of_another_container(tmp_path):
    torch.save(TENSORS, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="isn't a safetensors file"):
        read_metadata(tmp_path / "x.pth")

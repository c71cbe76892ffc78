import pickle
import struct

import numpy as np
import pytest
import scipy.io
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


def test_dictionaries_in_dictionaries_become_dotted_keys(tmp_path):
    """As 25 denoisers by number."""
    path = tmp_path / "set.pth"
    torch.save({"0": {"model.0.weight": TENSORS["a.weight"]}, "1": {"b": torch.ones(2)}}, path)
    tensors = read_checkpoint(path).tensors
    assert tensors.keys() == {"0.model.0.weight", "1.b"}
    assert torch.equal(tensors["0.model.0.weight"], TENSORS["a.weight"])


class TestMatlab:
    def test_variables_structures_and_cells(self, tmp_path):
        path = tmp_path / "weights"  # the content says what it is, not the name
        matrix = np.arange(6.0).reshape(2, 3)
        row = np.empty((1, 2), object)
        row[0, 0], row[0, 1] = matrix, np.array([[7]], np.uint8)
        variables = {"a": matrix, "s": {"c": row, "note": "text"}, "empty": np.empty((1, 0))}
        scipy.io.savemat(path.with_suffix(".mat"), variables)
        path.with_suffix(".mat").rename(path)
        tensors = read_checkpoint(path).tensors
        assert tensors.keys() == {"a", "s.c.0", "s.c.1"}
        assert torch.equal(tensors["a"], torch.arange(6.0).view(2, 3))
        assert torch.equal(tensors["s.c.0"], tensors["a"])
        assert tensors["s.c.1"].item() == 7

    def test_matconvnet_parameters_go_by_their_names(self, tmp_path):
        params = [{"name": n, "value": np.full((1, 2), v)} for n, v in (("f", 1.0), ("g", 2.0))]
        net = {"params": params, "layers": [{"pad": 1.0}, {"pad": 2.0}], "meta": {"scale": 2.0}}
        scipy.io.savemat(tmp_path / "net.mat", {"net": net})
        tensors = read_checkpoint(tmp_path / "net.mat").tensors
        assert {k: t.tolist() for k, t in tensors.items()} == {"f": [[1, 1]], "g": [[2, 2]]}

    def test_compressed_and_large_variables(self, tmp_path):
        values = np.random.default_rng(0).random((30, 7, 2)).astype(np.float32)
        whole = {"small_numbers": np.arange(300.0), "values": values, "true": np.array([[True]])}
        for compressed in (False, True):
            scipy.io.savemat(tmp_path / "x.mat", whole, do_compression=compressed)
            tensors = read_checkpoint(tmp_path / "x.mat").tensors
            assert np.array_equal(tensors["values"].numpy(), values)
            assert tensors["small_numbers"].tolist() == [list(range(300))]
            assert tensors["true"].tolist() == [[1]]

    def test_what_holds_no_numbers_is_passed_over(self, tmp_path):
        whole = {"a": np.ones(2), "i": np.ones(2) * 1j, "t": "text", "l": np.array(["x", "yz"])}
        scipy.io.savemat(tmp_path / "x.mat", whole)
        assert read_checkpoint(tmp_path / "x.mat").tensors.keys() == {"a"}

    @pytest.mark.parametrize("compressed", [False, True])
    def test_cut_anywhere(self, tmp_path, compressed):
        """SciPy's reader ends the process on some of these."""
        inner = {"c": np.ones((2, 3)), "t": "text"}
        scipy.io.savemat(tmp_path / "x.mat", {"a": inner}, do_compression=compressed)
        content = (tmp_path / "x.mat").read_bytes()
        for end in range(19, len(content) - 8, 3):
            (tmp_path / "x.mat").write_bytes(content[:end])
            with pytest.raises(WeightsError, match=r"damaged or incomplete|holds no plain"):
                read_checkpoint(tmp_path / "x.mat")

    def test_a_variable_that_explodes(self, tmp_path):
        scipy.io.savemat(tmp_path / "x.mat", {"a": np.zeros(10**6)}, do_compression=True)
        with pytest.raises(WeightsError, match="grows more than 100 times"):
            read_checkpoint(tmp_path / "x.mat")

    def test_damaged(self, tmp_path):
        scipy.io.savemat(tmp_path / "x.mat", {"a": np.ones((50, 50))})
        content = (tmp_path / "x.mat").read_bytes()
        (tmp_path / "x.mat").write_bytes(content[:300])
        with pytest.raises(WeightsError, match="damaged or incomplete MATLAB file"):
            read_checkpoint(tmp_path / "x.mat")

    def test_hdf5(self, tmp_path):
        (tmp_path / "x.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + bytes(600))
        with pytest.raises(WeightsError, match="save it again with the option -v7"):
            read_checkpoint(tmp_path / "x.mat")

"""Files that promise more than they hold are refused before memory is taken."""

import json
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from hspan.errors import HspanError, WeightsError
from hspan.models import create_model
from hspan.weights import load_model, save_model
from hspan.weights._container import read_metadata


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    torch.manual_seed(0)
    network = create_model("hspan-light", channels=4, num_blocks=1, attention_after=())
    path = tmp_path_factory.mktemp("weights") / "ours.safetensors"
    save_model(network, path, name="hspan-light")
    return path


def test_one_number_repeated(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"head.weight": torch.zeros(1).expand(10**6, 10**6)}, path)
    with pytest.raises(WeightsError, match="claims tensors of 4000000000000"):
        load_model(path, name="srcnn")


def test_official_names_of_giant_shapes(tmp_path):
    state = create_model("srcnn").state_dict()
    giant = {k: torch.zeros(1).expand([s * 10**3 for s in t.shape]) for k, t in state.items()}
    torch.save(giant, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="don't trust it"):
        load_model(tmp_path / "x.pth")


def test_archives_that_explode(tmp_path):
    torch.save({"a": torch.zeros(4)}, tmp_path / "a.pth")
    path = tmp_path / "bomb.pth"
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as whole,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in whole.namelist():
            large = name.endswith("data/0")
            bomb.writestr(name, bytes(1 << 24) if large else whole.read(name))
    with pytest.raises(WeightsError, match="would grow from"):
        load_model(path, name="srcnn")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("channels", 10**5, "far larger than its weights"),
        ("num_blocks", 10**9, "far larger than its weights"),
        ("channels", 10**30, "can't be built"),
        ("channels", "many", "can't be built"),
        ("channels", -4, "at least 1"),
        ("scale", 10**9, "scale must be"),
    ],
)
def test_absurd_configurations(ours, tmp_path, key, value, message):
    header = read_metadata(ours)
    config = json.loads(header["hspan.config"]) | {key: value}
    path = tmp_path / "x.safetensors"
    save_file(load_file(ours), path, {**header, "hspan.config": json.dumps(config)})
    with pytest.raises(WeightsError, match=message):
        load_model(path)
    assert load_model(ours).config.channels == 4


def test_nested_too_deep(ours, tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(load_file(ours), path, {**read_metadata(ours), "hspan.config": "[" * 10**5})
    with pytest.raises(WeightsError, match="unreadable"):
        load_model(path)


def test_code_is_never_run(tmp_path):
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(ran), "w"))

    for new in (True, False):
        torch.save({"params": Evil()}, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
        with pytest.raises(HspanError, match="could run code"):
            load_model(tmp_path / "x.pth")
    assert not ran.exists()

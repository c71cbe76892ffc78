"""Changes survive in files of weights."""

import json

import pytest
import torch

from hspan import (
    UsageError,
    WeightsError,
    add_hspa,
    create_model,
    load_model,
    replace_softmax,
    save_model,
)
from hspan.models import changes, repeat_changes
from hspan.weights._container import read_metadata


@pytest.fixture
def network():
    torch.manual_seed(0)
    return create_model("hspan", scale=2, channels=8, num_modules=2, attention="nla").eval()


def test_unchanged_networks_have_no_record(network, tmp_path):
    assert changes(network) == {}
    save_model(network, tmp_path / "n.safetensors", name="hspan")
    assert "hspan.changes" not in read_metadata(tmp_path / "n.safetensors")


def test_changes_are_saved_and_loaded(network, tmp_path):
    add_hspa(network, ["conv", "body.*.leb"], topk=9, reduction=4, residual_scale=0.2)
    replace_softmax(network, "body.1.attention")
    file = tmp_path / "n.safetensors"
    save_model(network, file, name="hspan")
    again = load_model(file)
    x = torch.rand(1, 3, 7, 6)
    assert torch.equal(again(x), network(x))
    assert changes(again) == changes(network) == json.loads(json.dumps(changes(network)))
    assert changes(again)["soft_threshold"] == ["body.1.attention"]
    assert changes(again)["hspa"][-1] == {
        "after": "conv", "channels": 8, "reduction": 4, "topk": 9, "residual_scale": 0.2
    }  # fmt: skip


@pytest.mark.parametrize(
    "record",
    [
        {"hspa": [{"after": "tale", "channels": 8}]},
        {"hspa": [{"after": "conv"}]},
        {"soft_threshold": ["conv"]},
        {"hspa": 3},
    ],
)
def test_records_that_do_not_fit(network, record):
    with pytest.raises(UsageError, match="can't be changed as recorded"):
        repeat_changes(network, record)


def test_garbled_record(network, tmp_path, monkeypatch):
    from hspan.weights import _save

    for record, message in (("[]", "record of changes"), ('{"hspa": [{}]}', "as recorded")):
        monkeypatch.setattr(_save, "changes", lambda model, text=record: json.loads(text) or [0])
        save_model(network, tmp_path / "n.safetensors", name="hspan")
        with pytest.raises(WeightsError, match=message):
            load_model(tmp_path / "n.safetensors")

import json

import pytest
import torch
from safetensors.torch import save_file

from hspan.errors import UsageError, WeightsError
from hspan.models import create_model
from hspan.weights import load_model, save_model

SMALL = {"channels": 8, "num_modules": 2, "num_blocks": 1}


@pytest.fixture
def path(tmp_path, network):
    path = tmp_path / "3x.safetensors"
    save_model(network, path, name="hspan")
    return path


def test_maps_images_to_larger_images(path):
    with torch.no_grad():
        assert load_model(path)(torch.rand(1, 3, 5, 4)).shape == (1, 3, 15, 12)


def test_settings_that_leave_the_weights_alone_can_change(path):
    assert load_model(path, topk=16).config.topk == 16


def test_settings_that_dont_fit_the_weights_are_listed(path):
    with pytest.raises(WeightsError) as caught:
        load_model(path, num_blocks=2)
    assert str(caught.value).endswith(
        "3x.safetensors doesn't fit hspan ×3: 8 missing (body.0.leb.1.conv1.weight, "
        "body.0.leb.1.conv1.bias, body.0.leb.1.conv2.weight, body.0.leb.1.conv2.bias, and 4 more)"
    )
    with pytest.raises(WeightsError, match=r"of another shape \(head.weight: \[8, .* \[9, .* more"):
        load_model(path, channels=9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 2}, "holds weights of scale 3, not 2"),
        ({"name": "hspan-light"}, "holds weights of network hspan, not hspan-light"),
        ({"chanels": 8}, "did you mean channels"),
        ({"device": "abacus"}, "device 'abacus' can't be used here"),
    ],
)
def test_impossible_calls(path, arguments, message):
    with pytest.raises(UsageError, match=message):
        load_model(path, **arguments)


def test_files_without_metadata_need_name_and_scale(tmp_path, network):
    path = tmp_path / "x.safetensors"
    save_file(network.state_dict(), path)
    loaded = load_model(path, name="hspan", scale=3, **SMALL)
    assert torch.equal(loaded.head.weight, network.head.weight)
    with pytest.raises(WeightsError, match=r"no known network has weights called body\.0"):
        load_model(path)
    with pytest.raises(WeightsError, match=r"doesn't fit hspan ×2: 2 of another shape"):
        load_model(path, name="hspan", scale=2, **SMALL)


def test_unknown_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="unknown model 'hspan-lite': did you mean hspan-light"):
        load_model("hspan-lite")


@pytest.mark.parametrize(
    "entries",
    [
        {"hspan.config": "{"},
        {"hspan.config": "3"},
        {"hspan.config": json.dumps({"scale": 3, "depth": 4})},
        {"hspan.model": "hspan-huge"},
    ],
)
def test_unreadable_metadata(path, entries, monkeypatch):
    from hspan.weights import _container

    whole = _container.read_checkpoint(path)
    _container.write_safetensors(path, whole.tensors, whole.metadata | entries)
    with pytest.raises(WeightsError, match=r"metadata is unreadable|written by another version"):
        load_model(path)


def test_weights_that_are_no_numbers(path, network):
    with torch.no_grad():
        network.conv.bias[3] = torch.nan
    save_model(network, path, name="hspan")
    with pytest.raises(WeightsError, match=r"conv\.bias holds NaN"):
        load_model(path)


def test_weights_for_every_scale_and_for_one(tmp_path):
    path = tmp_path / "x.safetensors"
    save_model(create_model("vdsr", scale=2, channels=4, num_layers=3), path, name="vdsr")
    assert load_model(path).config.scale == 2
    assert load_model(path, scale=4).config.scale == 4
    # Nothing in SRCNN's shapes says the scale either, but it was trained for one.
    save_model(create_model("srcnn", scale=2, channels=(4, 2)), path, name="srcnn")
    with pytest.raises(UsageError, match="scale 2, not 4"):
        load_model(path, scale=4)

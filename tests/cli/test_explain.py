import json

import numpy as np
import pytest
import torch
from PIL import Image

from hspan.cli import main
from hspan.models import create_model
from hspan.weights import save_model


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small network with attention over patches of 4×4, ×2."""
    torch.manual_seed(0)
    network = create_model("hspan-light", channels=4, num_blocks=2)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_model(network, path, name="hspan-light")
    return str(path)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def run(photo, weights, *arguments):
    return main(["explain", str(photo), "--at", "9", "2", "-m", weights, *map(str, arguments)])


def test_figure_beside_the_image(photo, weights, capsys):
    assert run(photo, weights) == 0
    with Image.open(photo.with_name("photo_explain_9_2.png")) as figure:
        assert figure.format == "PNG"
    out = capsys.readouterr().out
    assert "pixel (9, 2) of 16x12" in out
    assert "of 12 keys, each a patch of 4×4 pixels" in out
    assert "levels of 255 here" in out
    assert run(photo, weights) == 2
    assert "exists already; --overwrite replaces it" in capsys.readouterr().err


def test_json_alone(photo, weights, capsys):
    assert run(photo, weights, "--json", "-", "--no-switch-off") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["at"] == [9, 2]
    assert found["layers"][0]["layer"] == "body.1"
    assert found["layers"][0]["switched_off"] is None
    assert [p.name for p in photo.parent.iterdir()] == ["photo.png"]


def test_json_file_with_maps(photo, weights, tmp_path):
    target = tmp_path / "found.json"
    assert run(photo, weights, "--json", target, "--maps", "--layer", "body.*") == 0
    maps = json.loads(target.read_text())["layers"][0]["maps"]
    assert np.array(maps["soft_threshold_weights"]).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--maps", "-o", "x.png"], 2, "name its file with --json"),
        (["-o", "x.jpg"], 2, "a plot is written as .png, .svg, .pdf"),
        (["-o", "absent/x.png"], 2, "there is no folder absent"),
        (["--json", "absent/x.json"], 1, "can't be written"),
        (["--layer", "tail"], 2, "isn't attention"),
    ],
)
def test_wrong_calls(photo, weights, capsys, monkeypatch, arguments, status, sentence):
    monkeypatch.chdir(photo.parent)
    assert run(photo, weights, *arguments) == status
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def test_input_is_never_replaced(photo, weights, capsys):
    assert run(photo, weights, "-o", photo, "--overwrite") == 2
    assert "is the input itself" in capsys.readouterr().err


def test_place_outside(photo, weights, capsys):
    assert main(["explain", str(photo), "--at", "16", "0", "-m", weights, "--json", "-"]) == 2
    assert "lies outside the image of 16×12 pixels" in capsys.readouterr().err


def test_missing_image(tmp_path, weights, capsys):
    assert run(tmp_path / "none.png", weights, "--json", "-") == 1
    assert "doesn't exist" in capsys.readouterr().err

import json

import pytest
import torch

from hspan.cli import main
from hspan.models import create_model, list_models
from hspan.weights import _shipped, save_model


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(_shipped, "FOLDER", tmp_path)
    torch.manual_seed(0)
    network = create_model("hspan", scale=2, channels=8, num_modules=1)
    details = {"steps": 7, "scores": {"Set5": {"psnr": 37.654, "ssim": 0.9591}}}
    save_model(network, tmp_path / "2x_hspan.safetensors", name="hspan", metadata=details)


def run(capsys, *words):
    status = main(["models", *words])
    return status, capsys.readouterr()


def test_parameters_are_the_papers(capsys):
    status, captured = run(capsys, "--json")
    content = json.loads(captured.out)
    networks = {network["name"]: network for network in content["models"]}
    assert (status, content["schema"]) == (0, "hspan.models/1")
    assert list(networks) == list_models()
    # Section IV-B's network, counted at ×2, ×3 and ×4.
    assert list(networks["hspan"]["parameters"].values()) == [32_288_673, 33_948_513, 33_616_545]
    assert networks["hspan"]["config"]["channels"] == 192
    assert networks["hspan-s"]["config"]["attention_modules"] == [4]
    for network in networks.values():
        assert set(network) == {
            "name", "title", "year", "paper", "venue", "parameters", "multiply_adds",
            "receptive_field", "published", "weights", "config",
        }  # fmt: skip


def test_costs_and_scores(capsys):
    _, captured = run(capsys, "edsr", "--json")
    (edsr,) = json.loads(captured.out)["models"]
    assert edsr["published"]["2"]["Urban100"] == {"psnr": 32.93, "ssim": 0.9351}
    counts = edsr["multiply_adds"]["2"]
    assert counts["total"] == counts["convolutions"] > counts["attention"] == 0
    assert (edsr["venue"], edsr["year"]) == ("CVPR workshops", 2017)
    _, captured = run(capsys, "hspan", "--json")
    (hspan,) = json.loads(captured.out)["models"]
    assert hspan["receptive_field"] == {"2": "global", "3": "global", "4": "global"}
    assert hspan["multiply_adds"]["4"]["attention"] > 0
    _, captured = run(capsys, "edsr")
    for words in ("40.73 M", "9.4 T", "38.11/32.93", "Enhanced deep residual", "136"):
        assert words in captured.out


def test_table_lists_networks_and_shipped_weights(capsys, shipped):
    status, captured = run(capsys)
    assert status == 0
    for words in ("hspan-light", "32.29 M", "33.95 M", "33.62 M"):
        assert words in captured.out
    assert "…" not in captured.out  # nothing is cut in 80 columns
    megabytes = (_shipped.FOLDER / "2x_hspan.safetensors").stat().st_size / 1e6
    for words in ("2x_hspan", "×2", "BI", "Set5 37.65", "0.9591", f"{megabytes:.2f} MB"):
        assert words in captured.out
    rows = [line.split() for line in captured.out.splitlines()]
    # The scores' table: only the weight's own network has one here.
    here = {row[0]: row[-1] for row in rows if len(row) >= 6 and row[1] in ("global", "17")}
    assert (here["hspan"], here["fsrcnn"]) == ("×2", "-")


def test_one_network_in_detail(capsys, shipped):
    _, captured = run(capsys, "hspan-s")
    assert "No weights of hspan-s" in captured.out
    assert "residual_scale" in captured.out
    assert "hspan-light" not in captured.out


def test_one_weight_in_detail(capsys, shipped):
    _, captured = run(capsys, "2x_hspan")
    assert "steps: 7" in captured.out
    _, captured = run(capsys, "2x_hspan", "--json")
    (weight,) = json.loads(captured.out)["weights"]
    assert set(weight) == {
        "name", "model", "scale", "kind", "bytes", "hash", "sha256", "config", "provenance"
    }  # fmt: skip
    assert weight["config"]["channels"] == 8


def test_unknown_name(capsys):
    status, captured = run(capsys, "hspan-lite")
    assert (status, captured.out) == (2, "")
    assert "did you mean hspan-light" in captured.err

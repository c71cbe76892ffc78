"""Local folders in the Hub's form: the same weights come back, and the card says what they are."""

import json

import pytest
import torch

pytest.importorskip("huggingface_hub")

from huggingface_hub import ModelCard

from hspan import InputError, Upscaler, WeightsError, create_model, load_model
from hspan.integrations.hub import HubModel


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = create_model("hspan-light", channels=8, num_blocks=2).eval()
    scores = {"Set5": {"psnr": 31.234, "ssim": 0.91234}}
    return HubModel(network, "cc-by-4.0", {"scores": scores, "steps": 10})


def test_round_trip(model, tmp_path):
    model.save_pretrained(tmp_path / "repository")
    files = sorted(p.name for p in (tmp_path / "repository").iterdir())
    assert files == ["README.md", "config.json", "model.safetensors"]
    again = HubModel.from_pretrained(tmp_path / "repository")
    image = torch.rand(1, 3, 11, 14, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again(image), model(image))
    assert not again.training
    assert (again.licence, again.provenance) == (model.licence, model.provenance)
    # Everything is in the weights' own file, so that nothing here is needed to read it.
    assert load_model(tmp_path / "repository" / "model.safetensors").config == model.network.config


def test_configuration_and_card(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["library"], config["model"], config["channels"]) == ("hspan", "hspan-light", 8)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert (card.data.library_name, card.data.pipeline_tag) == ("hspan", "image-to-image")
    assert "super-resolution" in card.data.tags
    assert "| Set5 | 31.23 | 0.9123 |" in card.text
    assert "| `num_blocks` | `2` |" in card.text
    assert '"steps": 10' in card.text
    parameters = sum(p.numel() for p in model.network.parameters())
    assert f"{parameters:,} parameters" in card.text


def test_settings_may_change_on_the_way_in(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert HubModel.from_pretrained(tmp_path, topk=16).network.config.topk == 16


def test_shipped_weights_with_their_licence(tmp_path):
    HubModel.load("hspan-light").save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "apache-2.0"
    assert "| Urban100 |" in card.text
    network = HubModel.from_pretrained(tmp_path).network
    assert Upscaler(network, 2)(torch.rand(3, 8, 9)).shape == (3, 16, 18)


def test_folder_without_weights(tmp_path):
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        HubModel.from_pretrained(tmp_path)


def test_damaged_weights(model, tmp_path):
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match="damaged"):
        HubModel.from_pretrained(tmp_path)


def test_push_writes_the_same_files(model, monkeypatch):
    """What would be uploaded, without a server: the calls of the Hub's client are caught."""
    sent = {}

    class Server:
        def __init__(self, **_):
            pass

        def create_repo(self, repo_id, **_):
            return type("Url", (), {"repo_id": repo_id})()

        def upload_folder(self, repo_id, folder_path, **_):
            sent[repo_id] = sorted(p.name for p in folder_path.iterdir())
            return "done"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Server)
    assert model.push_to_hub("someone/light") == "done"
    assert sent == {"someone/light": ["README.md", "config.json", "model.safetensors"]}

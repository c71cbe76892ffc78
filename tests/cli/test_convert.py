import pytest
import torch

from hspan.cli import main
from hspan.models import create_model
from hspan.weights import load_model


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    network = create_model("hspan", scale=3, channels=8, num_modules=1, topk=None)
    torch.save({"params": network.state_dict()}, tmp_path / "mine.pth")
    return tmp_path / "mine.pth"


def run(capsys, *words):
    status = main(["convert", *map(str, words)])
    return status, capsys.readouterr()


def test_converts_and_says_what_it_wrote(capsys, checkpoint, tmp_path):
    out = tmp_path / "out.safetensors"
    settings = "channels=8", "num_modules=1", "topk=none", "attention=hspa"
    status, captured = run(capsys, checkpoint, out, *settings, "--name", "hspan", "-s", 3)
    assert (status, captured.err) == (0, "")
    network = load_model(out)
    parameters = sum(p.numel() for p in network.parameters())
    assert captured.out.startswith(f"{out}: hspan ×3, {parameters:,} parameters, hash ")
    assert (network.config.scale, network.config.topk) == (3, None)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 1, "say which"),
        (["--name", "hspna"], 2, "did you mean"),
        (["--name", "hspan", "channels"], 2, "write key=value"),
        (["--name", "hspan", "chanels=8"], 2, "did you mean channels"),
        (["--name", "hspan", "-s", "3"], 1, "far larger than its weights"),
    ],
)
def test_failures_are_one_sentence(capsys, checkpoint, tmp_path, words, status, message):
    result, captured = run(capsys, checkpoint, tmp_path / "out.safetensors", *words)
    assert (result, captured.out) == (status, "")
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "out.safetensors").exists()

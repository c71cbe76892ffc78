import json

import pytest
import torch

from hspan import create_model, save_model
from hspan.cli import main


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    network = create_model("hspan-light", channels=8, num_blocks=1, topk=None)
    save_model(network, tmp_path / "w.safetensors", name="hspan-light")
    return tmp_path / "w.safetensors"


def run(capsys, *words):
    status = main(["export", *map(str, words)])
    return status, capsys.readouterr()


def test_writes_and_compares(capsys, weights, tmp_path):
    out = tmp_path / "program.pt2"
    words = (weights, "--format", "torch-export", "-o", out)
    status, captured = run(capsys, *words, "--json")
    assert (status, captured.err) == (0, "")
    facts = json.loads(captured.out)
    assert (facts["output"], facts["model"], facts["scale"]) == (str(out), "hspan-light", 2)
    assert len(facts["deviations"]) == 5
    assert all(0 <= d["largest"] <= 1e-4 for d in facts["deviations"])
    status, captured = run(capsys, *words)
    assert status == 2
    assert captured.err == f"hspan: {out} exists; name another file with -o, or add --overwrite\n"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--precision", "int8"], 2, "name a folder of LR images"),
        (["topk=16", "--format", "torch-export"], 2, "topk=none on the command line"),
        (["topk"], 2, "write key=value"),
        (["-o", "none/x.onnx"], 1, "there is no folder none"),
        (["--format", "coreml"], 2, "coreml"),
    ],
)
def test_wrong_calls(capsys, weights, words, status, message):
    got, captured = run(capsys, weights, *words)
    assert got == status
    assert message in captured.err

"""hspan train at the command line: exit statuses, what is printed, what is left behind."""

import numpy as np
import pytest
from PIL import Image

from hspan.cli import main

TINY = (
    "model.channels=8",
    "model.num_blocks=1",
    "model.attention_after=[1]",
    "data.patch=8",
    "data.batch_size=2",
    "training.precision=fp32",
    "training.accelerator=cpu",
    "logging.log_every=1",
)


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images/a.png")
    (tmp_path / "images/b.png").write_text("not an image")
    return [*TINY, f"data.train={tmp_path / 'images'}", f"data.cache={tmp_path / 'cache'}"]


def test_run_and_resume(tmp_path, settings, capsys):
    out = ["--out", str(tmp_path / "run")]
    assert main(["train", "hspan-light_x2", *settings, "training.max_steps=2", *out]) == 0
    printed = capsys.readouterr()
    weights = tmp_path / "run/2x_hspan-light.safetensors"
    assert printed.out.splitlines()[-1] == str(weights)
    assert weights.exists()
    assert "left out b.png" in printed.err
    assert "step 2/2" in printed.err
    assert " steps/s  0:00:00 left" in printed.err
    more = ["train", "hspan-light_x2", *settings, "training.max_steps=3", *out]
    assert main(more) == 2
    assert "continue it with --resume auto" in capsys.readouterr().err
    assert main([*more, "--resume", "auto"]) == 0
    assert capsys.readouterr().out.startswith("3 steps in ")


def test_dry_run_prints_a_recipe(tmp_path, capsys):
    assert main(["train", "hspan_x3", "data.batch_size=4", "--dry-run"]) == 0
    (tmp_path / "own.toml").write_text(capsys.readouterr().out)
    assert main(["train", str(tmp_path / "own.toml"), "--dry-run"]) == 0
    assert "batch_size = 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["hspan-light_x2"], 2, "data.train=DIR"),
        (["hspan-lite_x2"], 2, "did you mean hspan-light_x2"),
        (["hspan-light_x2", "data.trian=x"], 2, "did you mean data.train"),
        (["hspan-light_x2", "data.train=/no/such/folder"], 1, "no such folder"),
        (["hspan-light_x2", "data.train=.", "--resume", "absent.ckpt"], 1, "no such checkpoint"),
        ([], 2, "Missing argument"),
    ],
)
def test_wrong_calls(words, status, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == status
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "runs").exists()

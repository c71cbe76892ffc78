"""hspan data check and degrade: exit statuses, JSON, files."""

import json

import numpy as np
import pytest
from PIL import Image

from hspan.cli import main


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)
    for name in "ab":
        Image.fromarray(pixels).save(tmp_path / f"in/{name}.png")
    return tmp_path / "in"


def test_check_good_folder(folder, capsys):
    assert main(["data", "check", str(folder), "--scale", "2"]) == 0
    printed = capsys.readouterr()
    assert "usable images: 2" in printed.out
    assert "verdict: ready" in printed.out
    assert printed.err == ""


def test_check_names_what_is_wrong(folder, capsys):
    (folder / "c.png").write_text("not an image")
    Image.new("RGB", (50, 50)).save(folder / "d.png")
    assert main(["data", "check", str(folder)]) == 1
    printed = capsys.readouterr()
    assert "c.png: not a readable image" in printed.err
    assert "too small for a 96×96 training patch: d" in printed.out


def test_check_json(folder, capsys):
    (folder / "c.png").write_text("not an image")
    assert main(["data", "check", str(folder), "--json", "--scale", "3"]) == 1
    report = json.loads(capsys.readouterr().out)
    reason = report["unusable"].pop("c")
    assert "not a readable image" in reason
    assert report == {
        "folder": str(folder),
        "layout": "HR images, LR made from them",
        "scale": 3,
        "kind": "BI",
        "images": 2,
        "width": [120, 120],
        "height": [99, 99],
        "megapixels": 2 * 120 * 99 / 1e6,
        "too_small": ["a", "b"],
        "unusable": {},
        "problems": [],
        "ok": False,
    }


def test_degrade(folder, tmp_path, capsys):
    (folder / "c.png").write_text("not an image")
    out = tmp_path / "out"
    words = ["data", "degrade", str(folder), "--scale", "2", "-o", str(out)]
    assert main(words) == 1
    printed = capsys.readouterr()
    assert printed.out.strip() == str(out / "LR_bicubic/X2")
    assert "c.png" in printed.err
    assert sorted(p.name for p in (out / "LR_bicubic/X2").iterdir()) == ["ax2.png", "bx2.png"]
    assert main(words) == 2
    assert "has files already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["check", "/no/such/folder"], 1, "no such folder"),
        (["check", ".", "--kind", "bicubic"], 2, "kind"),
        (["degrade", ".", "--scale", "2"], 2, "out"),
    ],
)
def test_wrong_calls(words, status, message, capsys):
    assert main(["data", *words]) == status
    assert message in capsys.readouterr().err


def test_folder_without_images(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path)]) == 1
    assert "found nothing; wanted images" in capsys.readouterr().err

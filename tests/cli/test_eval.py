import json

import numpy as np
import pytest
from PIL import Image

from hspan.cli import main


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "Set14"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (34, 36, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


def run(capsys, *words):
    status = main(["eval", *map(str, words)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_set5_bicubic_is_the_papers_row(shared_data, capsys):
    status, out, _ = run(
        capsys, "-m", "bicubic", "-s", 2, "--data", shared_data / "benchmarks/Set5", "--json", "-"
    )
    assert status == 0
    (dataset,) = json.loads(out)["datasets"]
    (paper,) = dataset["published"]
    assert (dataset["name"], len(dataset["images"]), paper["method"]) == ("Set5", 5, "Bicubic")
    assert dataset["psnr"] == pytest.approx(paper["psnr"], abs=0.02)
    assert dataset["ssim"] == pytest.approx(paper["ssim"], abs=0.001)


def test_table_paper_and_protocol_are_printed(capsys, folder):
    status, out, _ = run(capsys, "-m", "bicubic", "-s", 2, "--data", folder)
    assert status == 0
    assert "bicubic ×2 BI" in out
    assert "Bicubic (paper)" in out
    assert "30.24" in out
    for words in ("BT.601", "8 bits", "2 pixels left out", "whole images", "weights: none"):
        assert words in out
    assert "LR of Set14: made from HR" in out
    assert "--grey raw does too" in out
    _, out, _ = run(capsys, "-m", "bicubic", "-s", 2, "--data", folder, "--grey", "raw")
    assert "--grey raw does too" not in out


def test_several_folders_in_either_spelling(capsys, folder, tmp_path):
    other = tmp_path / "Other"
    folder.joinpath("a.png").rename(other.mkdir() or other / "a.png")
    for words in (["--data", folder, "--data", other], ["--data", folder, other]):
        _, out, _ = run(capsys, "-m", "bicubic", "-s", 2, *words, "--json", "-")
        assert [d["name"] for d in json.loads(out)["datasets"]] == ["Set14", "Other"]


def test_json_file_holds_what_stdout_would(capsys, folder, tmp_path):
    target = tmp_path / "scores.json"
    status, out, _ = run(
        capsys, "-m", "bicubic", "-s", 3, "--kind", "BD", "--data", folder, "--json", target
    )
    assert (status, "bicubic ×3 BD" in out) == (0, True)
    content = json.loads(target.read_text(encoding="utf-8"))
    assert (content["schema"], content["kind"], content["complete"]) == ("hspan.eval/1", "BD", True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Set14", "scores.json"]


def test_json_on_stdout_stands_alone(capsys, folder):
    _, out, err = run(capsys, "-m", "bicubic", "-s", 2, "--data", folder, "--json", "-")
    assert json.loads(out)["model"] == "bicubic"
    assert "bicubic ×2 BI" in err


def test_a_broken_image_is_named_and_ends_in_1(capsys, folder):
    (folder / "c.png").write_text("no image")
    status, out, err = run(capsys, "-m", "bicubic", "-s", 2, "--data", folder)
    assert status == 1
    assert "hspan: Set14/c: " in err
    assert "2 of 3" in out


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["-m", "bicubic", "-s", "2"], 2, "no folder of images"),
        (["-m", "bicubic", "-s", "2", "--data", "nowhere"], 1, "nowhere"),
        (["-m", "bicubic", "-s", "5", "--data", "FOLDER"], 2, "scale must be 2, 3 or 4"),
        (["-m", "bicubik", "-s", "2", "--data", "FOLDER"], 2, "unknown model 'bicubik'"),
        (["-m", "bicubic", "--kind", "XY", "--data", "FOLDER"], 2, "--kind"),
        (["-m", "bicubic", "--tile", "some", "--data", "FOLDER"], 2, "--tile is auto, 0"),
        (["-m", "bicubic", "--data", "FOLDER", "--json", "no/x"], 2, "there is no folder no"),
        (["-m", "FOLDER/a.png", "--data", "FOLDER"], 1, "isn't a checkpoint"),
        (["-m", "FOLDER/x.pth", "--data", "FOLDER"], 1, "no such checkpoint file"),
    ],
)
def test_impossible_calls_are_one_sentence(capsys, folder, words, status, message):
    result, out, err = run(capsys, *[word.replace("FOLDER", str(folder)) for word in words])
    assert (result, out) == (status, "")
    assert message in err
    assert "Traceback" not in err


def test_an_empty_folder_is_an_error(capsys, tmp_path):
    status, _, err = run(capsys, "-m", "bicubic", "-s", 2, "--data", tmp_path)
    assert (status, str(tmp_path) in err) == (1, True)

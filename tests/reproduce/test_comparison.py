import json

import pytest

from hspan.errors import InputError
from hspan.evaluation import evaluate
from hspan.models import create_model
from hspan.reproduce import _scores, reproduce
from hspan.weights import save_model


def results(job):
    return json.loads((job.folder / "report.json").read_text())["results"]["measured"]


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    model = create_model("fsrcnn", scale=2, channels=8, inner_channels=4, num_mappings=1)
    save_model(model, folder / "2x_fsrcnn.safetensors", name="fsrcnn")
    (folder / "broken.safetensors").write_bytes(b"nonsense")
    return folder


def test_bicubic_under_both_rules(make_job, benchmarks):
    job = make_job("table3", "datasets=['Set5', 'Set14', 'B100']")
    reproduce(job)
    both = {each["grey"]: each for each in results(job) if each["model"] == "bicubic"}
    own = evaluate("bicubic", [benchmarks / "Set14"], scale=3, kind="BD", grey="raw")
    assert both["raw"]["scores"]["Set14"]["psnr"] == own.datasets[0].psnr
    # One of two images gains 20 log10(255 / 219) dB when it is replicated to RGB.
    gain = both["replicate"]["scores"]["Set14"]["psnr"] - own.datasets[0].psnr
    assert gain == pytest.approx(1.32 / 2, abs=0.05)
    text = (job.folder / "report.md").read_text()
    assert "Two rules for grey images" in text
    assert "published only: B100" in text
    assert "| HSPAN | published | 34.90 | 0.9303 | 30.81 | 0.8496 | 29.42 | 0.8131 |" in text
    # These aren't the real images, so the difference must be marked.
    assert "2 of 2 published scores aren't met" in text
    latex = (job.folder / "table3_differences.tex").read_text()
    assert r"\textbf{" in latex


def test_networks_with_weights(make_job, weights):
    job = make_job("table2", "scales=[2]", "datasets=['Set5']", weights=(weights,))
    reproduce(job)
    found = {each["model"]: each for each in results(job)}
    assert set(found) == {"bicubic", "hspan-light", "fsrcnn"}
    assert found["fsrcnn"]["origin"] == "2x_fsrcnn.safetensors"
    assert found["hspan-light"]["scores"]["Set5"]["images"] == 2
    lines = (job.folder / "report.md").read_text().splitlines()
    row = next(i for i, line in enumerate(lines) if line.startswith("| FSRCNN | published"))
    assert lines[row + 1].startswith("| **fsrcnn** | measured |")
    assert any("`broken.safetensors` wasn't used" in line for line in lines)
    assert (job.folder / "table2_x2.csv").read_text().startswith("method,source,Set5 PSNR")


def test_scores_are_kept(make_job, monkeypatch):
    job = make_job("table3", "datasets=['Set5']")
    reproduce(job)
    before = results(job)
    monkeypatch.setattr(_scores, "evaluate", None)
    reproduce(job)
    assert results(job) == before


def test_missing_weights(make_job, tmp_path):
    with pytest.raises(InputError, match="no such checkpoint or folder"):
        reproduce(make_job("table3", weights=(tmp_path / "absent",)))


@pytest.mark.parametrize("name", ["table2", "table3"])
def test_bicubic_rows_of_the_paper(make_job, shared_data, name):
    """On the real Set5, within the tolerance that the tables' own test sets."""
    scales = ["scales=[2, 3]"] if name == "table2" else []
    words = ["datasets=['Set5']", "network_datasets=[]", *scales]
    job = make_job(name, *words, data=shared_data / "benchmarks")
    reproduce(job)
    assert (
        f"all {1 + len(scales)} published scores are met" in (job.folder / "report.md").read_text()
    )

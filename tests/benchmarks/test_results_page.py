"""The page of scores and the model cards say what was measured, of the weights that ship."""

import importlib.util
import json
from pathlib import Path

import pytest

from hspan.weights import shipped_weights

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "results_page", ROOT / "benchmarks" / "results_page.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_as_written(script):
    stale = [p.name for p, text in script.pages().items() if p.read_text(encoding="utf-8") != text]
    assert not stale, "run python benchmarks/results_page.py"


@pytest.mark.parametrize("name", sorted(shipped_weights()))
def test_scores_are_of_the_shipped_file(name):
    record = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))
    weight = shipped_weights()[name]
    assert record["evaluation"]["protocol"]["weights"] == weight.hash
    if "ensemble" in record:
        assert record["ensemble"]["protocol"]["weights"] == weight.hash
    measured = {d["name"]: round(d["psnr"], 3) for d in record["evaluation"]["datasets"]}
    assert measured == {key: score["psnr"] for key, score in weight.provenance["scores"].items()}

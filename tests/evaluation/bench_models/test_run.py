import json
import sys

import pytest
import torch

from hspan.errors import UsageError
from hspan.evaluation import count_multiply_adds
from hspan.evaluation.bench_models import (
    ModelSettings,
    ModelsReport,
    _run,
    bench_models,
    models_report_from_json,
)
from hspan.evaluation.bench_models._competitor import Competitor
from hspan.models import create_model
from hspan.weights import save_model


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    network = create_model("hspan-light", scale=2, channels=8, num_blocks=1)
    save_model(network, tmp_path / "small.safetensors", name="hspan-light")
    return str(tmp_path / "small.safetensors")


def measure(*models, **settings) -> ModelsReport:
    given = {"scale": 2, "sizes": ((16, 12),), "budget": 5.0, **settings}
    return bench_models(ModelSettings(models=models, **given))


def test_networks_and_files_in_order(checkpoint):
    seen = []
    settings = ModelSettings(
        models=("fsrcnn", checkpoint), scale=2, sizes=((16, 12), (8, 8)), budget=5.0
    )
    report = bench_models(settings, on_case=seen.append)
    assert tuple(seen) == report.cases
    assert [(c.height, c.width, c.scale) for c in report.cases] == [(16, 12, 2), (8, 8, 2)]
    first, second = report.cases[0].results
    assert (first.network, first.weights, first.parameters) == ("fsrcnn", "random", 12_644)
    assert (second.network, second.weights) == ("hspan-light", "small.safetensors")
    assert first.ratio == 1
    assert second.ratio == pytest.approx(second.milliseconds / first.milliseconds)
    assert min(first.repetitions, second.repetitions) >= 3
    assert first.best_milliseconds <= first.milliseconds
    network = create_model("fsrcnn", scale=2)
    assert first.multiply_adds == count_multiply_adds(network, 16, 12)


def test_json_round_trip(tmp_path):
    report = measure("fsrcnn")
    content = json.dumps(report.to_json(), allow_nan=False)
    (tmp_path / "r.json").write_text(content)
    again = models_report_from_json(tmp_path / "r.json")
    assert again.cases == report.cases
    assert json.loads(content)["schema"] == "hspan.bench.models/1"
    assert again.versions["torch"] == torch.__version__
    assert again.machine["threads"] == torch.get_num_threads()


def test_what_takes_too_long_is_said_and_left_out(monkeypatch):
    seconds = {"edsr": 100.0, "fsrcnn": 0.0}
    monkeypatch.setattr(_run, "_expected", lambda competitor, *rest: seconds[competitor.name])
    report = measure("edsr", "fsrcnn", sizes=((64, 64),))
    large, small = report.cases[0].results
    assert large.skipped == "a run takes about 1e+02 s: more than its share of the budget"
    assert (large.milliseconds, large.parameters) == (None, 40_729_603)
    assert large.multiply_adds.total > 1e11
    assert small.ratio == 1  # of the first that was timed


def test_estimates_grow_with_the_work(monkeypatch):
    """Four times the pixels of convolutions, sixteen times the attention."""
    monkeypatch.setattr(_run, "_once", lambda run: 1.0)
    settings = ModelSettings(models=("hspan-light",), scale=2)
    competitor = Competitor("hspan-light", settings, torch.device("cpu"))
    few, many = (count_multiply_adds(competitor.network, side, side) for side in (16, 32))
    assert many.convolutions == 4 * few.convolutions
    assert many.attention == 16 * few.attention
    expected = _run._expected(competitor, 32, 32, many)
    assert expected == pytest.approx(many.total / few.total)


def test_a_file_of_another_scale(checkpoint):
    report = measure(checkpoint, "fsrcnn", scale=3)
    assert "scale 2, not 3" in report.cases[0].results[0].skipped


@pytest.mark.skipif(sys.platform == "win32", reason="Windows doesn't say what a process held")
def test_memory():
    report = measure("fsrcnn", sizes=((256, 256),), memory=True)
    # 56 maps of the LR size in float32, twice: a PReLU's input and its output.
    maps = 256 * 256 * 56 * 4 / 2**20
    assert 1.5 * maps < report.cases[0].results[0].extra_mib < 8 * maps


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"models": ()}, "no model"),
        ({"models": ("hspna",)}, "did you mean"),
        ({"models": ("edsr", "edsr")}, "once"),
        ({"scale": 5}, "2, 3 or 4"),
        ({"sizes": ((4, 64),)}, "at least 8×8"),
        ({"precision": "int8"}, "fp32, bf16, fp16"),
        ({"threads": 0}, "at least 1"),
        ({"budget": 0}, "more than 0"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(UsageError, match=message):
        ModelSettings(**settings)

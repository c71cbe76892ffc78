import json

import pytest
import torch

from hspan.errors import InputError
from hspan.evaluation.bench_attention import Settings, bench_attention

QUICK = {"channels": 16, "support": 4.0, "budget": 0.1, "methods": ("sdpa-fp32",)}


def test_cases_of_all_settings_in_order():
    seen, said, reports = [], [], []
    report = bench_attention(
        [
            Settings(tokens=(64, 100), directions=("forward", "forward+backward"), **QUICK),
            Settings(tokens=(64,), features="gaussian", **QUICK),
        ],
        on_case=seen.append,
        say=said.append,
        on_report=reports.append,
    )
    assert tuple(seen) == report.cases
    assert [r.cases for r in reports] == [report.cases[: i + 1] for i in range(len(seen))]
    assert reports[-1] == report
    found = [(c.tokens, c.features, c.direction) for c in report.cases]
    both = ("forward", "forward+backward")
    assert found == [*((n, "photo", d) for n in (64, 100) for d in both), (64, "gaussian", both[0])]
    for case in report.cases:
        assert [r.method for r in case.results] == ["ours", "sdpa-fp32"]
        assert (case.query_channels, case.value_channels, case.target_support) == (8, 16, 4.0)
        assert case.support == pytest.approx(4, rel=0.15)
        assert all(r.milliseconds > 0 for r in case.results)
    assert any("alternating" in line for line in said)
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert content["schema"] == "hspan.bench.attention/1"
    assert content["settings"][1]["features"] == "gaussian"
    assert content["machine"]["processor"]
    assert content["versions"]["torch"] == torch.__version__
    assert any("median" in line for line in content["protocol"])


def test_threads_are_set_said_and_restored():
    before = torch.get_num_threads()
    settings = Settings(tokens=(64,), threads=before + 1, **QUICK)
    report = bench_attention([settings])
    assert report.machine["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_a_photograph_that_is_too_small_skips_its_case():
    report = bench_attention([Settings(tokens=(64**2 + 1,), features="network", budget=1.0)])
    (case,) = report.cases
    assert "no photograph at hand has 260×260" in case.skipped
    assert (case.results, case.support, case.target_support) == ((), None, None)


def test_a_photograph_that_is_not_there_stops_everything(tmp_path):
    with pytest.raises(InputError, match="absent"):
        bench_attention([Settings(image=tmp_path / "absent.png")])

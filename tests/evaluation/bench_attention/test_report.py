import json

import pytest

from hspan.errors import InputError
from hspan.evaluation.bench_attention import AttentionReport, Case, Result, report_from_json

REPORT = AttentionReport(
    date="2030-01-01T00:00:00+00:00",
    commit=None,
    machine={"processor": "Some 9000"},
    versions={"hspan": "1"},
    settings=({"tokens": [100]},),
    protocol=("medians",),
    cases=(
        Case(
            tokens=100,
            features="photo",
            direction="forward",
            target_support=8.0,
            results=(Result(method="ours", title="hspan", milliseconds=1.5, ratio=1.0),),
        ),
        Case(
            tokens=9, features="network", direction="forward", target_support=None, skipped="small"
        ),
    ),
)


def test_json_there_and_back(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(REPORT.to_json(), allow_nan=False), encoding="utf-8")
    assert json.loads(path.read_text())["schema"] == "hspan.bench.attention/1"
    assert report_from_json(path) == REPORT
    path.write_text('{"schema": "hspan.eval/1"}')
    with pytest.raises(InputError, match=r"doesn't hold hspan\.bench\.attention/1"):
        report_from_json(path)


def test_results_by_method():
    case = REPORT.cases[0]
    assert case.result("ours") == case.results[0]
    assert case.result("released") is None

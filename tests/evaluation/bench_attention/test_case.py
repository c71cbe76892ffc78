"""What is measured whole, what in part, and what is left out with a reason."""

import time
from dataclasses import replace

import pytest
import torch

from hspan.evaluation.bench_attention import METHODS, Result, _case
from hspan.evaluation.bench_attention._case import measure_case, with_ratios


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    """256 of the features' 400 queries are tried first."""
    monkeypatch.setattr(_case, "_LEAST_ROWS", 256)


def measure(methods, features, direction="forward", budget=0.05, memory=False):
    results = measure_case(methods, features, direction, budget=budget, threads=1, memory=memory)
    return {result.method: result for result in results}


def sleeping(seconds_per_query):
    """A method whose time is known."""

    def attend(query, key, value, features):
        time.sleep(seconds_per_query * query.shape[1])
        return query

    return replace(METHODS["sdpa-fp32"], attend=attend)


def result(method, milliseconds):
    return Result(method=method, title=method, milliseconds=milliseconds)


def test_ratios_are_over_ours():
    results = with_ratios((result("released", 30.0), result("ours", 1.5), result("tiles", None)))
    assert [r.ratio for r in results] == [20.0, 1.0, None]
    assert [r.ratio for r in with_ratios((result("tiles", 3.0), result("ours", None)))] == [
        None
    ] * 2


def test_everything_small_is_measured_whole(features):
    results = measure(
        {k: METHODS[k] for k in ("ours", "released", "sdpa-bf16")}, features, budget=5
    )
    for outcome in results.values():
        assert outcome.skipped is None
        assert (outcome.rows, outcome.extrapolated, outcome.tile) == (400, False, None)
        assert outcome.repetitions >= 3
        assert 0 < outcome.best_milliseconds <= outcome.milliseconds
        assert outcome.ratio == outcome.milliseconds / results["ours"].milliseconds
    assert 0 < results["ours"].relative_error < 3e-6
    assert 0 < results["released"].relative_error < 3e-6
    assert results["sdpa-bf16"].relative_error is None


def test_the_slow_is_extrapolated_and_the_slower_left_out(features):
    methods = {
        "ours": METHODS["ours"],
        "slow": sleeping(1e-4),  # 40 ms for all queries, 26 ms for the first ones
        "slower": sleeping(1e-3),
    }
    results = measure(methods, features, budget=3 * 3 * 0.033)
    slow, slower = results["slow"], results["slower"]
    assert (slow.rows, slow.extrapolated, slow.skipped) == (256, True, None)
    assert slow.milliseconds == pytest.approx(40, rel=0.2)
    assert slower.milliseconds is None
    assert "too long for the budget" in slower.skipped


def test_ours_is_never_extrapolated(features):
    patient = measure({"ours": sleeping(1e-4)}, features, budget=0.02)["ours"]
    assert (patient.rows, patient.extrapolated, patient.repetitions) == (400, False, 3)
    refused = measure({"ours": sleeping(1e-3)}, features, budget=0.01)["ours"]
    assert (refused.milliseconds, refused.ratio) == (None, None)
    assert "too long for the budget" in refused.skipped


def test_matrices_larger_than_memory_are_cut(features, monkeypatch):
    monkeypatch.setattr(_case, "available_ram", lambda: 2**20)
    monkeypatch.setattr(_case, "RELEASED_TILE", 150)
    methods = {name: METHODS[name] for name in ("ours", "released")}
    methods["absent"] = replace(METHODS["tiles"], why_not=lambda: "not today")
    results = measure(methods, features, budget=1, memory=True)
    assert results["absent"].memory_skipped == "not today"
    assert (results["released"].tile, results["ours"].tile) == (150, None)
    assert results["released"].rows == 400
    assert "GiB" in results["released"].memory_skipped
    assert results["released"].extra_mib is None
    assert 0 <= results["ours"].extra_mib < 200  # so little that no page may be new


def test_what_cannot_run_says_so(features):
    methods = {
        "ours": METHODS["ours"],
        "product-fp32": METHODS["product-fp32"],
        "absent": replace(METHODS["tiles"], why_not=lambda: "not today"),
    }
    results = measure(methods, features, "forward+backward")
    assert results["product-fp32"].skipped == "has no backward"
    assert (results["absent"].skipped, results["absent"].memory_skipped) == ("not today", None)
    assert results["ours"].milliseconds > 0


def test_running_out_of_memory_is_a_reason_and_a_bug_is_not(features):
    def exhausted(query, key, value, _):
        return torch.empty(2**50)

    def broken(query, key, value, _):
        raise RuntimeError("shapes don't fit")

    method = METHODS["sdpa-fp32"]
    found = measure({"ours": METHODS["ours"], "big": replace(method, attend=exhausted)}, features)
    assert found["big"].skipped == "not enough memory for 256 queries"
    with pytest.raises(RuntimeError, match="shapes don't fit"):
        measure({"bad": replace(method, attend=broken)}, features)

import pytest

from hspan.errors import InputError
from hspan.evaluation.bench_models import (
    ModelCase,
    ModelResult,
    ModelSettings,
    ModelsReport,
    plot_models,
)

pytest.importorskip("matplotlib")


def report(*results) -> ModelsReport:
    case = ModelCase(scale=4, height=64, width=64, results=results)
    return ModelsReport(
        date="",
        commit=None,
        machine={"processor": "abacus", "threads": 1},
        versions={},
        settings={"precision": ModelSettings().precision},
        protocol=(),
        cases=(case,),
    )


def test_networks_of_table_2(tmp_path):
    results = (
        ModelResult(model="hspan", network="hspan", parameters=33_616_545, milliseconds=900.0),
        ModelResult(model="edsr", network="edsr", parameters=43_089_923, milliseconds=400.0),
        ModelResult(model="x", network="oisr-rk3", parameters=44_287_113, milliseconds=9.0),
        ModelResult(model="hspan-s", network="hspan-s", parameters=1, milliseconds=9.0),
    )
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    plot_models(report(*results), [first])
    plot_models(report(*results), [second])
    text = first.read_text(encoding="utf-8")
    assert first.read_bytes() == second.read_bytes()
    # OISR has a score on Set5 and none on Manga109.
    counts = [text.count(f"<!-- {name} -->") for name in ("hspan", "edsr", "oisr-rk3", "hspan-s")]
    assert counts == [2, 2, 1, 0]
    assert "abacus, 1 thread" in text


def test_nothing_to_draw(tmp_path):
    with pytest.raises(InputError, match="Table II"):
        plot_models(report(ModelResult(model="x", network="x", parameters=1)), [tmp_path / "a.png"])

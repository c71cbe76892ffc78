import json
import sys

import pytest

from hspan.cli import main
from hspan.evaluation.bench_attention import METHODS

QUICK = ["--channels", "16", "--support", "4", "--budget", "0.1", "--threads", "1"]


@pytest.fixture(autouse=True)
def without_data(monkeypatch):
    monkeypatch.delenv("HSPAN_DATA", raising=False)


def run(capsys, *words):
    status = main(["bench", "attention", *map(str, words)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_table(capsys):
    status, out, _ = run(capsys, "--n", "64,100", "--n", "81", *QUICK)
    assert status == 0
    assert out.index("N = 64,") < out.index("N = 81,") < out.index("N = 100,")
    for method in METHODS.values():
        assert (method.title in out) == method.usual
    for words in (
        "× ours",
        "error",
        "Q and K of 8 channels",
        "bundled photograph",
        "torch",
        "runs",
    ):
        assert words in out


def test_json_and_backward(capsys, tmp_path):
    target = tmp_path / "report.json"
    words = "--n", 64, "--backward", "--features", "gaussian", "--method", "sdpa-fp32", *QUICK
    status, out, _ = run(capsys, *words, "--json", target)
    content = json.loads(target.read_text(encoding="utf-8"))
    assert (status, content["schema"]) == (0, "hspan.bench.attention/1")
    assert [c["direction"] for c in content["cases"]] == ["forward", "forward+backward"]
    assert [r["method"] for r in content["cases"][1]["results"]] == ["ours", "sdpa-fp32"]
    assert content["machine"]["threads"] == 1
    assert "forward+backward" in out


def test_an_interruption_keeps_what_is_measured(capsys, monkeypatch, tmp_path):
    from hspan.evaluation.bench_attention import _run

    measure = _run.measure_case

    def interrupted(methods, features, *arguments, **options):
        if features.query.shape[1] == 100:
            raise KeyboardInterrupt
        return measure(methods, features, *arguments, **options)

    monkeypatch.setattr(_run, "measure_case", interrupted)
    target = tmp_path / "report.json"
    status, _, err = run(capsys, "--n", "64,100", "--method", "released", *QUICK, "--json", target)
    assert status == 130
    assert "Traceback" not in err
    cases = json.loads(target.read_text(encoding="utf-8"))["cases"]
    assert [c["tokens"] for c in cases] == [64]
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_json_on_stdout_stands_alone(capsys):
    status, out, err = run(capsys, "--n", 64, "--method", "released", *QUICK, "--json", "-")
    assert status == 0
    assert json.loads(out)["cases"][0]["tokens"] == 64
    assert "N = 64" in err


def test_the_networks_features_that_need_a_larger_photograph(capsys):
    status, out, _ = run(capsys, "--features", "network", "--n", 4097, "--budget", 1)
    assert status == 0
    assert "no photograph at hand has 260×260 pixels" in out


def test_memory_and_plot(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    words = "--n", 900, "--method", "released", "--memory", *QUICK
    status, out, _ = run(capsys, *words, "--plot", tmp_path / "plot.svg")
    assert status == 0
    assert "MiB" in out
    assert "<svg" in (tmp_path / "plot.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--n", "many"], 2, "got 'many'"),
        (["--n", "64,"], 2, "got ''"),
        (["--n", "1"], 2, "at least 2, got 1"),
        (["--n", "16"], 2, "must lie in [1, 16) for 16 tokens, got 32"),
        (["--channels", "7"], 2, "positive even number, got 7"),
        (["--features", "video"], 2, "--features"),
        (["--features", "network", "--support", "9"], 2, "--support can't be chosen"),
        (["--features", "network", "--channels", "64"], 2, "--channels can't be chosen"),
        (["--method", "flash"], 2, "unknown method 'flash'"),
        (["--threads", "0"], 2, "threads must be at least 1"),
        (["--budget", "-1"], 2, "more than 0 seconds"),
        (["--json", "no/x"], 2, "there is no folder no"),
        (["--image", "no.png"], 1, "no.png"),
        (["--plot", "plot.png"], 2, "pip install 'hspan[plot]'"),
    ],
)
def test_impossible_calls_are_one_sentence(capsys, monkeypatch, words, status, message):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result, out, err = run(capsys, *words)
    assert (result, out) == (status, "")
    assert message in err
    assert "Traceback" not in err


def run_models(capsys, *words):
    status = main(["bench", "models", *map(str, words)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_models_table(capsys, tmp_path):
    target = tmp_path / "report.json"
    words = "fsrcnn", "edsr", "-s", 2, "--size", "16x24", "--budget", 0.5, "--threads", 1
    status, out, _ = run_models(capsys, *words, "--json", target)
    assert status == 0
    for text in ("fsrcnn", "16×24", "0.0126", "40.7", "share of", "budget", "torch"):
        assert text in out
    content = json.loads(target.read_text(encoding="utf-8"))
    assert content["schema"] == "hspan.bench.models/1"
    assert [r["model"] for r in content["cases"][0]["results"]] == ["fsrcnn", "edsr"]
    assert content["machine"]["threads"] == 1


def test_models_plot_and_json_on_stdout(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    words = "fsrcnn", "--size", "8x8", "--budget", 0.2, "--plot", tmp_path / "plot.svg"
    status, out, err = run_models(capsys, *words, "--json", "-")
    assert status == 0
    assert json.loads(out)["cases"][0]["scale"] == 4
    assert "fsrcnn" in err
    assert "<svg" in (tmp_path / "plot.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hspna"], "did you mean"),
        (["--size", "64"], "got '64'"),
        (["--size", "4x64"], "at least 8×8"),
        (["-s", "5"], "2, 3 or 4"),
        (["--budget", "0"], "more than 0 seconds"),
        (["--json", "no/x"], "there is no folder no"),
        (["--plot", "plot.png"], "pip install 'hspan[plot]'"),
    ],
)
def test_impossible_calls_about_models(capsys, monkeypatch, words, message):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, out, err = run_models(capsys, *words)
    assert (status, out) == (2, "")
    assert message in err


def test_bench_alone_shows_what_there_is(capsys):
    main(["bench"])
    captured = capsys.readouterr()
    for name in ("attention", "models"):
        assert name in captured.out + captured.err

"""hspan reproduce at the command line: exit statuses, what is printed, what is left behind."""

import pytest

from hspan.cli import main
from hspan.reproduce import EXPERIMENTS, _experiments

SMALL = ["sides=[4]", "shown=[4]", "draws=5", "chance_sides=[4]", "chance_draws=10"]


def test_one(tmp_path, capsys):
    out = tmp_path / "results"
    assert main(["reproduce", "fig1", *SMALL, "--out", str(out), "--seeds", "1,2"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "fig1" / "report.md")
    assert "seeds = [1, 2]" in (out / "fig1" / "settings.toml").read_text()
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["fig3"], 2, "there is no experiment 'fig3'; choose from fig1, fig2"),
        (["fig1", "drows=3"], 2, "did you mean draws"),
        (["fig1", "--seeds", "a"], 2, "--seeds is a number"),
        (["table2"], 2, "give the folder that holds Set5"),
        (["table2", "--data", "/no/such/folder"], 1, "no such folder of benchmarks"),
        (["all", "draws=3"], 2, "with all, settings begin with an experiment"),
        (["all", "--settings", "x.toml"], 2, "name that instead of all"),
    ],
)
def test_wrong_calls(words, status, message, tmp_path, capsys):
    assert main(["reproduce", *words, "--out", str(tmp_path)]) == status
    assert message in capsys.readouterr().err


def test_all_goes_on(tmp_path, capsys, monkeypatch):
    few = {name: EXPERIMENTS[name] for name in ("fig1", "table3")}
    monkeypatch.setattr(_experiments, "EXPERIMENTS", few)
    words = [f"fig1.{word}" for word in SMALL]
    assert main(["reproduce", "all", *words, "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "table3: not done: table3 needs the benchmark images" in printed.err
    assert printed.out.strip() == str(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Fig. 1" in page
    assert "Table III" not in page
    del few["table3"]
    assert main(["reproduce", "all", *words, "--out", str(tmp_path)]) == 0

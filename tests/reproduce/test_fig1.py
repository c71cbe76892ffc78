import json
import math

import pytest

from hspan.reproduce import reproduce
from hspan.reproduce.fig1 import Settings, _chances, _spread

SMALL = ("sides=[4, 8]", "shown=[4, 8]", "draws=50", "chance_sides=[4]", "chance_draws=300")


def settings(**changes):
    values = {
        "seeds": (0,),
        "sides": (4,),
        "shown": (4,),
        "draws": 10,
        "chance_sides": (5,),
        "chance_ranks": (1, 2, 4, 30),
        "chance_draws": 500,
    }
    return Settings(**(values | changes))


def test_spread():
    found = _spread(64, 200, (0,))
    assert found.support[0] == (64.0, 0.0)  # softmax leaves nothing out
    assert 1 <= found.support[1][0] < 8
    assert found.largest[1][0] > found.largest[0][0]
    assert 0 < found.entropy[1][0] < found.entropy[0][0] < math.log(64)
    assert found == _spread(64, 200, (0,))
    assert found != _spread(64, 200, (1,))


def test_softmax_flattens():
    small, large = _spread(16, 200, (0,)), _spread(1024, 200, (0,))
    assert large.largest[0][0] < small.largest[0][0] / 5
    assert large.support[1][0] < 3 * small.support[1][0]


def test_equation_14():
    chances = _chances(25, settings())
    assert [c.k for c in chances] == [1, 2, 4]  # the 30th of 25 has no successor
    for c in chances:
        assert c.broken == 0
        assert c.above <= c.bound
    # T > 1 exactly where the gap is below 1.
    assert chances[0].above == chances[0].bound
    assert chances[2].above < chances[0].above


def test_report(make_job):
    job = make_job("fig1", *SMALL, data=None, train_data=None)
    reproduce(job)
    content = json.loads((job.folder / "report.json").read_text())
    assert content["budget"] == "quick"
    assert [each["n"] for each in content["results"]["weights"]] == [16, 64]
    for name in ("fig1", "fig1_statistics", "fig1_equation14"):
        assert (job.folder / f"{name}.png").stat().st_size > 1000
        assert "<svg" in (job.folder / f"{name}.svg").read_text()
    assert "draws = 50" in (job.folder / "settings.toml").read_text()
    assert "sides = [4, 8]" in (job.out / "report.html").read_text()
    again = make_job("fig1", data=None, settings_file=job.folder / "settings.toml")
    reproduce(again)
    assert json.loads((job.folder / "report.json").read_text())["results"] == content["results"]


def test_seeds(make_job):
    assert make_job("fig1", seeds=(3, 4)).settings(Settings).seeds == (3, 4)
    from hspan.errors import UsageError
    from hspan.reproduce.fig9 import Settings as Fig9

    with pytest.raises(UsageError, match="draws nothing at random"):
        make_job("fig9", seeds=(3,)).settings(Fig9)

import dataclasses
from dataclasses import dataclass
from importlib import import_module

import pytest

from hspan.errors import UsageError
from hspan.reproduce import BUDGETS, EXPERIMENTS, _comparison, _crops, _transplants
from hspan.reproduce._settings import load_settings, settings_toml
from hspan.training._recipe import _build

SHARED = {
    "table2": _comparison,
    "table3": _comparison,
    "fig5": _crops,
    "fig11": _crops,
    "fig12": _crops,
    "fig7": _transplants,
    "fig8": _transplants,
}


def settings_class(name):
    return (SHARED.get(name) or import_module(f"hspan.reproduce.{name}")).Settings


@dataclass(frozen=True, kw_only=True)
class Example:
    draws: int
    rate: float
    names: tuple[str, ...]
    boxes: tuple[tuple[int, ...], ...]
    recipe: dict[str, dict[str, int]]


TEXT = """
draws = 5
rate = 1
names = ["a"]
boxes = [[1, 2]]

[recipe.data]
patch = 48

[recipe."with a space"]
x = 1

[quick]
draws = 2

[quick.recipe.data]
batch = 3
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "example.toml").write_text(TEXT)
    return tmp_path / "example.toml"


def test_budgets_change_some_keys(file):
    quick = load_settings(Example, "example", "quick", file=file)
    paper = load_settings(Example, "example", "paper", file=file)
    assert (quick.draws, paper.draws) == (2, 5)
    assert quick.recipe["data"] == {"patch": 48, "batch": 3}
    assert paper.recipe["data"] == {"patch": 48}
    assert paper.rate == 1.0
    assert isinstance(paper.rate, float)
    assert paper.boxes == ((1, 2),)


def test_overrides(file):
    words = ["draws=7", "draws=8", "recipe.data.patch=24", "recipe.new.key=1", 'names=["b", "c"]']
    changed = load_settings(Example, "example", "quick", words, file)
    assert changed.draws == 8
    assert changed.recipe["data"]["patch"] == 24
    assert changed.recipe["new"] == {"key": 1}
    assert changed.names == ("b", "c")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("drws=1", "did you mean draws"),
        ("draws", "write key=value"),
        ("draws=many", "must be of type int, got 'many'"),
        ("draws.x=1", "holds no keys of its own"),
        ("names=a", "must be a list"),
        ("recipe=1", "must be a table"),
    ],
)
def test_wrong_overrides(file, word, message):
    with pytest.raises(UsageError, match=message):
        load_settings(Example, "example", "quick", [word], file)


def test_wrong_files(file, tmp_path):
    with pytest.raises(UsageError, match="the budget is quick, day, paper"):
        load_settings(Example, "example", "week", file=file)
    with pytest.raises(UsageError, match="can't read"):
        load_settings(Example, "example", "quick", file=tmp_path / "absent.toml")
    file.write_text("draws = ")
    with pytest.raises(UsageError, match="valid TOML"):
        load_settings(Example, "example", "quick", file=file)
    file.write_text("draws = 1\n")
    with pytest.raises(UsageError, match="lack boxes, names, rate, recipe"):
        load_settings(Example, "example", "quick", file=file)


def test_written_settings_are_read_as_the_same(file, tmp_path):
    settings = load_settings(Example, "example", "quick", file=file)
    (tmp_path / "again.toml").write_text(settings_toml(settings))
    assert load_settings(Example, "example", "paper", file=tmp_path / "again.toml") == settings


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_packaged_settings(name, budget, tmp_path):
    settings = load_settings(settings_class(name), name, budget)
    (tmp_path / "again.toml").write_text(settings_toml(settings))
    again = load_settings(settings_class(name), name, "quick", file=tmp_path / "again.toml")
    assert again == settings
    values = dataclasses.asdict(settings)
    if "recipe" in values:
        recipe = values["recipe"]
        recipe["model"].setdefault("name", "hspan")
        assert _build(name, recipe).training.max_steps > 0
        published = 50_000 if budget == "paper" else None
        assert published in (None, recipe["training"]["max_steps"])


def test_the_paper_budget_is_the_papers():
    settings = load_settings(settings_class("table1"), "table1", "paper")
    recipe = _build("table1", settings.recipe)
    assert recipe.model.config == {}  # HSPAN as published
    assert (recipe.data.batch_size, recipe.data.patch) == (16, 48)
    assert (recipe.optimizer.lr, recipe.training.max_steps) == (1e-4, 50_000)
    assert settings.crop == 0

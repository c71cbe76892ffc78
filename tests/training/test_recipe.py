"""Recipes: what is packaged is the paper's; what is misspelt is an error that helps."""

import dataclasses

import pytest
import torch

from hspan.errors import UsageError
from hspan.models import create_model
from hspan.training import list_recipes, load_recipe

PAPER = {  # Section IV-A, an epoch being 1000 steps: scale, kind, steps, halved every
    "hspan_x2": (2, "BI", 1_000_000, 200_000),
    "hspan_x3": (3, "BI", 200_000, 50_000),
    "hspan_x4": (4, "BI", 200_000, 50_000),
    "hspan_bd_x3": (3, "BD", 200_000, 50_000),
    "hspan_ablation_x2": (2, "BI", 50_000, 200_000),
    "hspan-s_x2": (2, "BI", 1_000_000, 200_000),
}


@pytest.mark.parametrize("name", PAPER)
def test_published_settings(name):
    recipe = load_recipe(name)
    expected = (recipe.model.scale, recipe.data.kind, recipe.training.max_steps)
    assert (*expected, recipe.schedule.halve_every) == PAPER[name]
    assert recipe.schedule.name == "multistep"
    assert (recipe.data.batch_size, recipe.data.patch) == (16, 48)
    assert recipe.optimizer.lr == 1e-4
    assert recipe.optimizer.betas == (0.9, 0.999)
    assert recipe.optimizer.eps == 1e-8


def test_every_recipe_is_listed():
    light = {f"hspan-light_{task}" for task in ("x2", "x3", "x4", "bd_x3")}
    assert set(list_recipes()) == {*PAPER, *light, "spmsr_x2"}


@pytest.mark.parametrize("name", list_recipes())
def test_every_network_can_be_built(name):
    model = load_recipe(name).model
    with torch.device("meta"):  # sizes alone
        network = create_model(model.name, scale=model.scale, **model.config)
    assert network.config.scale == model.scale


def test_overrides_take_the_type_of_their_key():
    recipe = load_recipe(
        "hspan-light_x2",
        [
            "training.max_steps=5e4",
            "training.channels_last=false",
            "optimizer.lr=1",
            "optimizer.betas=0.9,0.99",
            "data.train=1e3",
            "model.channels=32",
            "model.attention_after=[2, 5]",
            "training.max_time=1.5h",
            "training.max_steps=7",
        ],
    )
    assert recipe.training.max_steps == 7
    assert recipe.training.channels_last is False
    assert recipe.optimizer.lr == 1.0
    assert isinstance(recipe.optimizer.lr, float)
    assert recipe.optimizer.betas == (0.9, 0.99)
    assert recipe.data.train == "1e3"
    assert recipe.model.config == {"channels": 32, "attention_after": [2, 5]}
    assert recipe.training.max_seconds == 5400
    assert load_recipe("hspan-light_x2", ["data.sizes=1,0.6"]).data.sizes == (1.0, 0.6)
    assert load_recipe("hspan-light_x2", ["training.max_steps=5e4"]).training.max_steps == 50_000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.max_step=5", r"unknown key 'training\.max_step'; did you mean training\.max_st"),
        ("trainin.max_steps=5", "unknown section 'trainin'; did you mean training"),
        ("max_steps=5", r"'max_steps=5' is no setting; write section\.key=value"),
        ("training.max_steps", "is no setting"),
        ("training.max_steps=many", r"training\.max_steps must be of type int, got 'many'"),
        ("training.max_steps=1.5", "must be of type int"),
        ("training.max_steps=true", "must be of type int"),
        ("training.max_steps=0", "must be above 0"),
        ("training.channels_last=1", r"channels_last must be of type bool"),
        ("training.precision=fp16", "must be fp32 or bf16"),
        ("training.loss=l2", "must be l1 or mse"),
        ("training.ema=1", "below 1"),
        ("training.seed=-1", "not be negative"),
        ("training.accelerator=tpu", "auto, cpu, cuda or mps"),
        ("training.max_time=90", "a number and s, m or h"),
        ("training.max_time=xm", "a number and s, m or h"),
        ("optimizer.betas=0.9", "must be 2 values"),
        ("optimizer.lr=0.0", "above 0"),
        ("data.sizes=1.5", r"data\.sizes must be numbers above 0 and at most 1, got \[1\.5\]"),
        ("data.sizes=[]", "above 0 and at most 1"),
        ("data.sizes=1,half", r"data\.sizes must be a list, got '1,half'"),
        ("optimizer.clip=-1", "not be negative"),
        ("schedule.halve_every=10", "means nothing for cosine"),
        ("schedule.name=multistep", "halve_every must be given"),
        ("schedule.name=step", "multistep, cosine or trapezoid"),
        ("schedule.name=trapezoid", "descent must be given"),
        ("schedule.descent=10", "descent means nothing for cosine"),
        ("schedule.warmup=-1", "not be negative"),
        ("optimizer.name=sgd", "adam or muon"),
        ("optimizer.matrix_lr=0.0", "above 0"),
        ("data.kind=bicubic", "BI or BD"),
        ("data.batch_size=0", "above 0"),
        ("logging.log_every=0", "above 0"),
    ],
)
def test_wrong_overrides(override, message):
    with pytest.raises(UsageError, match=message):
        load_recipe("hspan-light_x2", [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model", "isn't valid TOML"),
        ("[model]\nname = 'hspan'\nscale = 2\n[traning]", "unknown section 'traning'"),
        ("[model]\nname = 'hspan'\n[training]\nmax_steps = 1", r"model\.scale is missing"),
        ("model = 3", r"must be a table, \[model\]"),
    ],
)
def test_wrong_files(tmp_path, text, message):
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_recipe(tmp_path / "own.toml")


@pytest.mark.parametrize("name", list_recipes())
def test_written_file_is_read_as_the_same_recipe(tmp_path, name):
    recipe = load_recipe(name, ["data.train=a 'b' \\"])
    (tmp_path / f"{name}.toml").write_text(recipe.as_toml(), encoding="utf-8")
    assert load_recipe(tmp_path / f"{name}.toml") == recipe


def test_unknown_recipe():
    with pytest.raises(UsageError, match=r"unknown recipe 'hspan_x5'; did you mean hspan_x"):
        load_recipe("hspan_x5")
    with pytest.raises(UsageError, match="can't read the recipe"):
        load_recipe("absent.toml")


def test_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_recipe("hspan_x2").name = "other"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.max_steps=1" + "0" * 400, "absurdly large"),
        ("optimizer.lr=1" + "0" * 400, "absurdly large"),
        ("optimizer.lr=inf", "finite"),
        ("optimizer.eps=nan", "finite"),
        ("optimizer.betas=0.9,5.0", "below 1"),
        ("data.batch_size=999999999", "at most"),
        ("data.patch=999999999", "at most"),
        ("training.devices=99999", "at most"),
        ("model.channels=1000000000", "at most 65536"),
        ("model.channels=1979-05-27", "numbers, text or a list"),
        ("model.channels=nan", "finite"),
        ("model.attention_after=[[1000000]]", "at most 65536"),
        ("model.channels=" + "[" * 3000, None),
    ],
)
def test_absurd_values(setting, message):
    if message is None:  # a text, which the network refuses
        assert load_recipe("hspan-light_x2", [setting]).model.config["channels"] == setting[15:]
        return
    with pytest.raises(UsageError, match=message):
        load_recipe("hspan-light_x2", [setting])


def test_nested_too_deep(tmp_path):
    path = tmp_path / "deep.toml"
    path.write_text("[model]\nname = " + "[" * 10**5)
    with pytest.raises(UsageError, match="isn't valid TOML"):
        load_recipe(path)

"""Whole runs: files, exact resume, signals, time limits, and what they refuse."""

import csv
import json
import os
import signal

import pytest
import torch
from safetensors import safe_open

from hspan.errors import InputError, UsageError
from hspan.training import list_recipes, train
from hspan.weights import load_model


class Watcher:
    """Keeps what a run reports, and interferes at a step."""

    def __init__(self, step=None, act=None):
        self.notes, self.rows = [], []
        self._step, self._act = step, act

    def note(self, sentence):
        self.notes.append(sentence)

    def caching(self, done, total):
        pass

    def row(self, row):
        self.rows.append(row)
        if row["step"] == self._step:
            self._act()


def interrupt():
    os.kill(os.getpid(), signal.SIGTERM)


def state(path):
    return torch.load(path, weights_only=True)


def assert_same(a, b):
    """Equal in every bit, whatever the nesting."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def read_log(folder):
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_resumed_run_equals_a_straight_one(tiny, tmp_path, optimizer):
    recipe = tiny(f"optimizer.name={optimizer}")
    straight = train(recipe, tmp_path / "a")
    # The interruption falls after a row of the log, not onto a scheduled checkpoint.
    first = train(recipe, tmp_path / "b", observer=Watcher(2, interrupt))
    assert first.interrupted
    assert first.weights is None
    assert first.steps == 3
    second = train(recipe, tmp_path / "b", resume="auto")
    assert not second.interrupted
    assert second.steps == straight.steps == 6
    a, b = state(straight.checkpoint), state(second.checkpoint)
    assert_same(a["state_dict"], b["state_dict"])
    assert_same(a["optimizer_states"], b["optimizer_states"])
    assert straight.psnr == second.psnr
    # The straight run is scored at step 3, the interrupted one too; logs agree where both wrote.
    logs = [{row["step"]: row for row in read_log(tmp_path / d)} for d in "ab"]
    assert list(logs[0]) == ["2", "3", "4", "6"]
    for step in ("2", "4", "6"):
        assert logs[0][step]["loss"] == logs[1][step]["loss"]
        assert logs[0][step]["psnr"] == logs[1][step]["psnr"]


def test_random_networks_resume_exactly_too(tiny, tmp_path):
    recipe = tiny("model.attention=nla-random", "model.samples=4", recipe="hspan_x2")
    straight = train(recipe, tmp_path / "a")
    train(recipe, tmp_path / "b", observer=Watcher(2, interrupt))
    second = train(recipe, tmp_path / "b", resume="auto")
    assert_same(state(straight.checkpoint)["state_dict"], state(second.checkpoint)["state_dict"])


def test_files_of_a_run(tiny, tmp_path):
    watcher = Watcher()
    result = train(tiny(), tmp_path / "run", observer=watcher)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "2x_hspan-light.safetensors",
        "best.ckpt",
        "last.ckpt",
        "log.csv",
        "recipe.toml",
        "tensorboard",
    }
    network = load_model(result.weights, device="cpu")
    average = {
        key.removeprefix("average."): tensor
        for key, tensor in state(result.checkpoint)["state_dict"].items()
        if key.startswith("average.")
    }
    assert_same(dict(network.state_dict()), average)
    rows = read_log(tmp_path / "run")
    assert [row["step"] for row in rows] == ["2", "3", "4", "6"]
    assert [bool(row["psnr"]) for row in rows] == [False, True, False, True]
    assert float(rows[-1]["psnr"]) == result.psnr
    assert [row["step"] for row in watcher.rows] == [2, 3, 4, 6]
    assert "3 training images" in watcher.notes[0]
    assert list((tmp_path / "run/tensorboard").glob("events*"))


def test_provenance_has_facts_and_no_paths(tiny, tmp_path, images):
    result = train(tiny(), tmp_path / "run")
    with safe_open(result.weights, "pt") as file:
        text = file.metadata()["hspan.provenance"]
    assert str(images.parent) not in text
    facts = json.loads(text)
    assert facts["steps"] == 6
    assert facts["images"] == 3
    assert len(facts["data_sha256"]) == 64
    assert facts["recipe"]["model"]["channels"] == 8
    assert facts["validation_psnr"] == result.psnr
    assert facts["torch"] == torch.__version__


def test_best_checkpoint_is_the_best(tiny, tmp_path):
    # A learning rate that destroys the network after a good start.
    unsafe = ("optimizer.lr=10.0", "optimizer.clip=0.0", "training.ema=0.0")
    recipe = tiny(*unsafe, "schedule.warmup=6")
    result = train(recipe, tmp_path / "run")
    scores = [float(row["psnr"]) for row in read_log(tmp_path / "run") if row["psnr"]]
    assert scores[0] > scores[-1] == result.psnr
    best = state(tmp_path / "run/best.ckpt")
    assert best["global_step"] == 3
    assert result.best_psnr == scores[0]
    network = load_model(tmp_path / "run/2x_hspan-light_best.safetensors", device="cpu")
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, best["state_dict"][f"network.{key}"])


def test_settings_may_change_on_resuming_and_are_named(tiny, tmp_path):
    train(tiny(), tmp_path / "run")
    watcher = Watcher()
    more = tiny("training.max_steps=8", "optimizer.lr=1e-5")
    assert train(more, tmp_path / "run", resume="auto", observer=watcher).steps == 8
    assert "changed: training.max_steps is 8, was 6" in watcher.notes
    assert "changed: optimizer.lr is 1e-05, was 0.001" in watcher.notes


def test_small_images_are_named(tiny, tmp_path):
    watcher = Watcher()
    train(tiny("data.patch=16", "training.max_steps=1"), tmp_path / "a", observer=watcher)
    assert not [note for note in watcher.notes if "left out" in note]
    with pytest.raises(InputError, match="smaller than a 34×34 patch"):
        train(tiny("data.patch=17"), tmp_path / "b", observer=watcher)
    assert "left out 0, 1, 2: smaller than a 34×34 patch" in watcher.notes
    with pytest.raises(InputError, match="smaller than a 34×34 patch"):
        train(tiny("data.patch=17", "data.sizes=1,0.9,0.8"), tmp_path / "c", observer=watcher)
    left = "left out 0, 0@0.9, 0@0.8, 1, 1@0.9 and 4 more: smaller than a 34×34 patch"
    assert left in watcher.notes


def test_time_limit_ends_a_run_properly(tiny, tmp_path):
    recipe = tiny("training.max_steps=1000000", "training.max_time=1s", "data.validation=")
    result = train(recipe, tmp_path / "run")
    assert not result.interrupted
    assert 0 < result.steps < 1_000_000
    assert 1 <= result.seconds < 10
    assert result.weights.exists()
    assert state(result.checkpoint)["global_step"] == result.steps


def test_killed_run_loses_little(tiny, tmp_path):
    def die():
        raise SystemExit

    recipe = tiny("logging.save_every=1000", "logging.save_minutes=1e-9")
    with pytest.raises(SystemExit):
        train(recipe, tmp_path / "run", observer=Watcher(4, die))
    assert state(tmp_path / "run/last.ckpt")["global_step"] == 3


def test_starts_from_other_weights(tiny, tmp_path):
    first = train(tiny(), tmp_path / "x2")
    overrides = ("model.scale=3", f"training.init_from={first.weights}", "training.max_steps=1")
    watcher = Watcher()
    train(tiny(*overrides, "optimizer.lr=1e-12"), tmp_path / "x3", observer=watcher)
    assert "newly initialised: tail.weight, tail.bias" in watcher.notes[0]
    given = load_model(first.weights, device="cpu").state_dict()
    weights = state(tmp_path / "x3/last.ckpt")["state_dict"]
    torch.testing.assert_close(weights["network.head.weight"], given["head.weight"])


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_trains_for_two_steps(tiny, tmp_path, name):
    recipe = tiny("training.max_steps=2", recipe=name)
    assert train(recipe, tmp_path / "run").steps == 2


def test_mixed_precision_keeps_float32_weights(tiny, tmp_path):
    result = train(tiny("training.precision=bf16"), tmp_path / "run")
    tensors = state(result.checkpoint)["state_dict"].items()
    floating = {t.dtype for _, t in tensors if t.is_floating_point()}
    assert floating == {torch.float32}
    losses = [float(row["loss"]) for row in read_log(tmp_path / "run")]
    train(tiny(), tmp_path / "exact")
    exact = [float(row["loss"]) for row in read_log(tmp_path / "exact")]
    assert losses == pytest.approx(exact, rel=0.05)
    assert losses != exact  # it was used


def test_skipped_steps_are_reported(tiny, tmp_path):
    watcher = Watcher()
    # Weights overflow at once; from then on no loss is finite.
    unsafe = ("optimizer.lr=1e38", "optimizer.clip=0.0", "schedule.warmup=0")
    recipe = tiny(*unsafe, "data.validation=")
    train(recipe, tmp_path / "run", observer=watcher)
    assert any("skipped" in note and "wasn't finite" in note for note in watcher.notes)
    assert float(read_log(tmp_path / "run")[-1]["skipped"]) >= 3


def test_refusals(tiny, tmp_path):
    with pytest.raises(UsageError, match=r"give their folder as data\.train=DIR"):
        train(tiny("data.train="), tmp_path / "run")
    with pytest.raises(InputError, match="no such checkpoint"):
        train(tiny(), tmp_path / "run", resume=tmp_path / "absent.ckpt")
    with pytest.raises(UsageError, match="has no setting 'chanels': did you mean channels"):
        train(tiny("model.chanels=8"), tmp_path / "run")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match=r"training\.accelerator=cuda can't be used here"):
            train(tiny("training.accelerator=cuda"), tmp_path / "run")
    train(tiny(), tmp_path / "run")
    with pytest.raises(UsageError, match="holds a run already: continue it with --resume auto"):
        train(tiny(), tmp_path / "run")
    with pytest.raises(UsageError, match=r"was made with model\.channels=8, the recipe says 4"):
        train(tiny("model.channels=4"), tmp_path / "run", resume="auto")
    with pytest.raises(UsageError, match=r"optimizer\.eps=1e-08"):
        train(tiny("optimizer.eps=1e-7"), tmp_path / "run", resume="auto")
    with pytest.raises(UsageError, match="other tensors than the recipe's network and its average"):
        train(tiny("training.ema=0.0"), tmp_path / "run", resume="auto")
    (tmp_path / "bad.ckpt").write_text("text")
    with pytest.raises(InputError, match="not a checkpoint of a training run"):
        train(tiny(), tmp_path / "run", resume=tmp_path / "bad.ckpt")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"recipe\.toml can't be written"):
        train(tiny(), tmp_path / "file" / "run")


def test_weights_are_no_checkpoint(tiny, tmp_path):
    result = train(tiny(), tmp_path / "run")
    with pytest.raises(InputError, match="not a checkpoint of a training run"):
        train(tiny(), tmp_path / "other", resume=result.weights)


def test_the_callers_random_numbers_are_left_alone(tiny, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    train(tiny(), tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_signal_handlers_are_given_back(tiny, tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(tiny(), tmp_path / "run")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

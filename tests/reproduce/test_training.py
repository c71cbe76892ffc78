"""Everything that trains, on networks and images as small as they can be."""

import json
import shutil

import pytest
from filelock import FileLock

import hspan.training
from hspan.errors import HspanError, UsageError
from hspan.reproduce import reproduce
from hspan.reproduce._training import Trainer

SMALL = ("recipe.model.channels=4", "recipe.model.num_modules=1", "recipe.model.num_blocks=1")
RECIPE = {
    "model": {"name": "fsrcnn", "scale": 2},
    "data": {"batch_size": 2, "patch": 8},
    "schedule": {"name": "cosine"},
    "training": {"max_steps": 2},
    "logging": {"log_every": 1, "validate_every": 1, "save_every": 1},
}


def content(job):
    return json.loads((job.folder / "report.json").read_text())


def test_runs_are_never_done_twice(make_job, monkeypatch):
    trainer = Trainer(make_job("fig7"), RECIPE, "Set5", 24)
    first = trainer.train("it", {}, 0)
    assert [step for step, _ in first.curve] == [1, 2]
    assert first.best == max(psnr for _, psnr in first.curve)
    assert first.parameters == 12_644
    changed = trainer.train("it", {}, 0, "hspa")
    assert changed.parameters == 12_644 + 630
    assert trainer.train("it", {}, 1).best != first.best
    monkeypatch.setattr(hspan.training, "train", None)
    assert trainer.train("it", {}, 0) == first
    assert first.network()  # strict


def test_two_commands_train_a_run_once(make_job, monkeypatch, tmp_path):
    elsewhere = Trainer(make_job("fig7", out=tmp_path / "other"), RECIPE, "Set5", 24)
    first = elsewhere.train("it", {}, 0)
    [run] = {path.parent for path in elsewhere.job.out.glob("runs/*/finished.json")}
    lock = FileLock(tmp_path / f"out/runs/{run.name}.lock")
    (tmp_path / "out/runs").mkdir(parents=True)

    def finish(sentence):  # as the other command would, while this one waits
        assert "waiting for another command, which trains it, seed 0" in sentence
        shutil.copytree(run, tmp_path / "out/runs" / run.name)
        lock.release()

    monkeypatch.setattr(hspan.training, "train", None)
    lock.acquire()
    second = Trainer(make_job("fig7", say=finish), RECIPE, "Set5", 24).train("it", {}, 0)
    assert (second.curve, second.best) == (first.curve, first.best)


def test_an_interrupted_run_goes_on(make_job, monkeypatch):
    trainer = Trainer(make_job("fig7"), RECIPE, "Set5", 0)
    whole = trainer.train("it", {}, 0).curve
    real = hspan.training.train
    other = Trainer(make_job("fig7", out=trainer.job.out / "other"), RECIPE, "Set5", 0)

    def interrupted(recipe, out, **options):
        from dataclasses import replace

        short = replace(recipe, training=replace(recipe.training, max_time="0s"))
        return replace(real(short, out, **options), interrupted=True)

    monkeypatch.setattr(hspan.training, "train", interrupted)
    with pytest.raises(HspanError, match="goes on from here"):
        other.train("it", {}, 0)
    monkeypatch.setattr(hspan.training, "train", real)
    assert other.train("it", {}, 0).curve == whole


def test_wrong_calls(make_job):
    with pytest.raises(UsageError, match="hspa or soft-threshold"):
        Trainer(make_job("fig7"), RECIPE, "Set5", 0).train("it", {}, 0, "softmax")
    with pytest.raises(UsageError, match="--train-data DIR"):
        Trainer(make_job("fig7", train_data=None), RECIPE, "Set5", 0).train("it", {}, 0)
    with pytest.raises(UsageError, match="--data DIR"):
        Trainer(make_job("fig7", data=None), RECIPE, "Set5", 0).train("it", {}, 0)


def test_table1(make_job, tiny):
    job = make_job("table1", *tiny, *SMALL, seeds=(0, 1))
    reproduce(job)
    found = content(job)["results"]
    assert list(found) == [
        "NLA without LEB",
        "HSPA without LEB",
        "LEB alone",
        "LEB + NLA",
        "LEB + HSPA",
    ]
    assert found["LEB + HSPA"]["published"] == 38.01
    assert set(found["LEB alone"]["psnr"]) == {"0", "1"}
    assert found["LEB alone"]["parameters"] < found["LEB + NLA"]["parameters"]
    assert found["LEB + NLA"]["parameters"] == found["LEB + HSPA"]["parameters"]
    text = (job.folder / "report.md").read_text()
    assert "Measured order: " in text
    assert "LEB + HSPA less LEB + NLA: **" in text
    assert content(job)["data"]["training"]["images"] == 2


def test_fig2(make_job, tiny):
    window = ("window=[2, 2, 12, 12]", "pixel=[3, 4]", "variants.NLA.residual_scale=0.2")
    job = make_job("fig2", *tiny, *SMALL, *window, seeds=(0,))
    reproduce(job)
    maps = content(job)["results"]["maps"]
    assert maps["NLA"][0]["support"] == 144
    assert maps["HSPA"][0]["support"] <= 144
    assert (job.folder / "fig2_maps.png").exists()


def test_fig4(make_job, tiny):
    window = ("window=[]", "pixels=[[3, 4]]", "layers=[1, 2]", "recipe.model.num_modules=2")
    job = make_job("fig4", *tiny, *SMALL, *window)
    reproduce(job)
    assert len(content(job)["results"]["pixel 3,4"]["HSPA"]) == 2
    with pytest.raises(UsageError, match=r"layers must lie in \[1, 2\]"):
        reproduce(make_job("fig4", *tiny, *SMALL, *window, "layers=[3]"))


@pytest.mark.parametrize(
    ("name", "networks", "added"),
    [
        ("fig7", "{fsrcnn={}, edsr={channels=4, num_blocks=2}}", (630, 43)),
        ("fig8", "{nlsn={channels=4, num_blocks=1, interval=1, chunk=8, rounds=1}}", (0,)),
    ],
)
def test_transplants(make_job, tiny, name, networks, added):
    job = make_job(name, *tiny, f"networks={networks}", seeds=(0,))
    reproduce(job)
    found = content(job)["results"]
    for each, extra in zip(found.values(), added, strict=True):
        before, after = each["parameters"]
        assert after - before == extra
        assert each["with"] != each["without"]
    assert "not clear of the seeds' spread" in (job.folder / "report.md").read_text()


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("fig1", "seeds=[]", "at least one seed"),
        ("fig1", "sides=[1, 4]", "sides must be at least one number, of 2 or more"),
        ("fig1", "chance_ranks=[2]", "count from 1"),
        ("fig1", "draws=0", "at least one draw"),
        ("fig2", "pixel=[3]", "column and row"),
        ("fig2", "variants={}", "at least one variant"),
        ("fig4", "layers=[]", "one layer"),
        ("fig6", "topk=[]", "at least one k"),
        ("fig7", "networks={}", "at least one network"),
        ("fig8", "seeds=[]", "at least one seed"),
        ("fig10", "size=[24]", "height and width"),
        ("table1", "variants={}", "at least one variant"),
    ],
)
def test_settings_that_leave_nothing_to_do(make_job, name, override, message):
    with pytest.raises(UsageError, match=message):
        reproduce(make_job(name, override))


def test_variants_of_ones_own(make_job, tiny):
    own = ('variants={linear={attention="none"}, sparse={attention="hspa", topk=8}}',)
    job = make_job("table1", *tiny, *SMALL, *own, seeds=(0,))
    reproduce(job)
    assert content(job)["results"]["sparse"]["published"] is None
    assert "Measured order" not in (job.folder / "report.md").read_text()


def test_a_window_beyond_the_image(make_job, tiny):
    for window in ("window=[1, 2, 3]", "window=[-1, 0, 4, 4]", "window=[0, 0, 0, 4]"):
        with pytest.raises(UsageError, match="left, top, width and height"):
            reproduce(make_job("fig2", *tiny, *SMALL, window, "pixel=[1, 1]", seeds=(0,)))

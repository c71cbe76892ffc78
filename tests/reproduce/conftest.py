"""Folders of small images, and runs that are over within a second."""

import numpy as np
import pytest
import torch
from PIL import Image

from hspan.reproduce import Job

# A recipe's shortest run.
_TINY = (
    "recipe.data.batch_size=2",
    "recipe.data.patch=8",
    "recipe.training.max_steps=2",
    "recipe.schedule.warmup=1",
    "recipe.logging.log_every=1",
    "recipe.logging.validate_every=1",
    "recipe.logging.save_every=2",
    "crop=24",
)


def save(path, height, width, seed, *, grey=False):
    """Smooth enough that scores are like those of photographs."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    (image.convert("L") if grey else image).save(path)


@pytest.fixture(scope="session")
def benchmarks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    for seed, name in enumerate(("butterfly", "bird")):
        save(folder / "Set5" / f"{name}.png", 48, 40, seed)
    save(folder / "Set14" / "HR" / "bridge.png", 48, 40, 3, grey=True)
    save(folder / "Set14" / "HR" / "barbara.png", 48, 64, 4)
    return folder


@pytest.fixture(scope="session")
def training_images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    for seed in range(2):
        save(folder / f"{seed}.png", 32, 40, 10 + seed)
    return folder


@pytest.fixture
def tiny():
    """Overrides for every experiment that trains."""
    return _TINY


@pytest.fixture
def make_job(benchmarks, training_images, tmp_path):
    def make(name, *overrides, **fields):
        defaults = {
            "data": benchmarks,
            "train_data": training_images,
            "device": "cpu",
            "out": tmp_path / "out",
        }
        return Job(name=name, overrides=overrides, **(defaults | fields))

    return make


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small only lose time by sharing work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

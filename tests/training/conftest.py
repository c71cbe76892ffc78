"""A folder of small images and a recipe that trains on it within a second."""

import numpy as np
import pytest
import torch
from PIL import Image

from hspan.training import load_recipe

MODELS = {
    "hspan": ("model.channels=8", "model.num_blocks=1", "model.num_modules=1"),
    "hspan-s": ("model.channels=8", "model.num_modules=1", "model.attention_modules=[0]"),
    "spmsr": ("model.patch=5", "model.lr_atoms=8", "model.hr_atoms=12", "model.num_levels=1"),
    "hspan-light": ("model.channels=8", "model.num_blocks=1", "model.attention_after=[1]"),
}
TINY = (
    "data.patch=8",
    "data.batch_size=2",
    "schedule.warmup=2",
    "training.max_steps=6",
    "training.precision=fp32",
    "training.accelerator=cpu",
    "logging.log_every=2",
    "logging.validate_every=3",
)


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i in range(3):
        coarse = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        image = Image.fromarray(coarse).resize((40, 32), Image.Resampling.BICUBIC)
        image.save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def tiny(images, tmp_path_factory):
    """Make the tiny recipe, with further overrides."""
    cache = tmp_path_factory.mktemp("cache")

    def make(*overrides, recipe="hspan-light_x2"):
        folders = (f"data.train={images}", f"data.validation={images}", f"data.cache={cache}")
        model = MODELS[recipe.split("_")[0]]
        return load_recipe(recipe, [*model, *TINY, *folders, *overrides])

    return make


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small only lose time by sharing work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

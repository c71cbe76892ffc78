"""Small images that exist for one test."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def write():
    """Write an image of smooth random colours; returns its pixels."""

    def write_image(path, width=40, height=30, seed=0, mode="RGB"):
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image.convert(mode).save(path)
        return np.asarray(image.convert(mode).convert("RGB"))

    return write_image

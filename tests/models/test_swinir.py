"""SwinIR: whole windows at any size, and stochastic depth."""

import pytest
import torch
from torch.nn import functional as F

from hspan import create_model

SMALL = {"channels": 8, "depths": (2, 2), "num_heads": 2, "window": 4}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model("swinir-light", **SMALL).eval()


def test_missing_rows_and_columns_are_mirrored(model):
    x = torch.rand(1, 3, 10, 7)
    padded = F.pad(x, (0, 1, 0, 2), mode="reflect")
    assert torch.equal(model(x), model(padded)[..., :20, :14])


def test_small_images_are_mirrored_more_than_once(model):
    x = torch.rand(1, 3, 2, 1)
    rows = torch.stack([x[:, :, i] for i in (0, 1, 0, 1)], dim=2)
    padded = rows.expand(1, 3, 4, 4)
    assert torch.equal(model(x), model(padded)[..., :4, :2])


def test_every_size_gets_its_own_mask(model):
    small, large = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 12, 8)
    before = model(small)
    model(large)
    assert torch.equal(model(small), before)


def test_branches_are_dropped_in_training_alone():
    torch.manual_seed(0)
    model = create_model("swinir-light", **SMALL, drop_path=0.9)
    rates = [block.drop_path for group in model.groups for block in group.blocks]
    assert rates == pytest.approx([0, 0.3, 0.6, 0.9])
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        assert len({float(model(x).sum()) for _ in range(8)}) > 1
        model.eval()
        assert torch.equal(model(x), model(x))


def test_lightweight_upsampler_has_one_convolution(model):
    assert [type(layer).__name__ for layer in model.tail] == ["Conv2d", "PixelShuffle"]

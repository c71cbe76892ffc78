"""What the tests of several programs need: random weights under their names, and bare layers."""

import pytest
import torch
from torch.nn import functional as F

from hspan.weights import load_model

MEAN = torch.tensor([0.4488, 0.4371, 0.4040])


class Program:
    """Random weights under a program's own names, and functions of them.

    Attributes:
        weights: the program's state dict.
    """

    def __init__(self):
        self.weights = {}
        self.generator = torch.Generator().manual_seed(0)

    def draw(self, key, *shape, spread=1.0, around=0.0):
        noise = torch.rand(shape, generator=self.generator) * 2 - 1
        self.weights[key] = around + spread * noise

    def add(self, key, inputs, outputs, side=3, transposed=False):
        bound = 1.7 / (inputs * side * side) ** 0.5
        shape = (inputs, outputs) if transposed else (outputs, inputs)
        self.draw(f"{key}.weight", *shape, side, side, spread=bound)
        self.draw(f"{key}.bias", outputs, spread=bound / 2)

    def add_shifts(self, value_range, drift=0.0, keys=("sub_mean", "add_mean")):
        """Mean shifts of that range, moved by what training may have done to them."""
        for key, sign in zip(keys, (-1, 1), strict=True):
            self.draw(f"{key}.weight", 3, 3, 1, 1, spread=drift)
            self.weights[f"{key}.weight"] += torch.eye(3).view(3, 3, 1, 1)
            self.draw(
                f"{key}.bias", 3, spread=drift * value_range, around=sign * value_range * MEAN
            )

    def add_upsampler(self, stem, scale, channels, stride=2):
        for i, r in enumerate({2: [2], 3: [3], 4: [2, 2]}[scale]):
            self.add(f"{stem}.{stride * i}", channels, r * r * channels)

    def conv(self, key, x, **options):
        """The convolution of that name; it keeps the size unless options say otherwise."""
        weight = self.weights[f"{key}.weight"]
        options.setdefault("padding", weight.shape[-1] // 2)
        return F.conv2d(x, weight, self.weights[f"{key}.bias"], **options)

    def upsample(self, stem, x, activation=lambda t: t):
        layer = 0
        while f"{stem}.{layer}.weight" in self.weights:
            enlarged = activation(self.conv(f"{stem}.{layer}", x))
            step = round((enlarged.shape[1] / x.shape[1]) ** 0.5)
            x = F.pixel_shuffle(enlarged, step)
            layer += 2 if f"{stem}.2.weight" in self.weights else 3
        return x


@pytest.fixture
def program():
    return Program()


@pytest.fixture
def load(tmp_path):
    """Load weights as a user does, from a file."""

    def loaded(weights, **options):
        torch.save(weights, tmp_path / "official.pt")
        return load_model(tmp_path / "official.pt", device="cpu", **options)

    return loaded


@pytest.fixture
def image():
    return torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def assert_computes():
    """Compare a network's output with what the program makes, relative to the latter's range.

    The weights are random: the output is no image.
    """

    def check(model, image, expected):
        with torch.no_grad():
            output = model(image)
        assert output.shape == expected.shape
        assert (output - expected).abs().max() <= 1e-4 * (expected.max() - expected.min())

    return check

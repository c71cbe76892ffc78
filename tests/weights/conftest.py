import numpy as np
import pytest
import scipy.io
import torch
from torch.nn import functional as F

from hspan.imaging import imresize
from hspan.models import create_model
from hspan.weights import load_model


@pytest.fixture
def network():
    """A small network with weights of its own."""
    torch.manual_seed(3)
    return create_model("hspan", scale=3, channels=8, num_modules=2, num_blocks=1)


# BT.601 in studio swing, as MATLAB's rgb2ycbcr has it.
YCBCR = (
    torch.tensor([[65.481, 128.553, 24.966], [-37.797, -74.203, 112], [112, -93.786, -18.214]])
    / 255
)
OFFSET = torch.tensor([16.0, 128, 128]).view(3, 1, 1) / 255


@pytest.fixture
def through_luma():
    """What a program that upscales luma makes of a colour image.

    It is called with luma as it is and enlarged; colour differences are enlarged by bicubic
    interpolation.
    """

    def run(image, scale, program):
        small = torch.einsum("ij,bjhw->bihw", YCBCR, image) + OFFSET
        large = imresize(small, scale)
        y = program(small[:, :1], large[:, :1])
        result = torch.cat([y, large[:, 1:]], dim=1) - OFFSET
        return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(YCBCR), result)

    return run


@pytest.fixture
def load_matlab(tmp_path):
    """Load variables as a user does, from MATLAB's file."""

    def loaded(variables, **options):
        scipy.io.savemat(tmp_path / "official.mat", variables)
        return load_model(tmp_path / "official.mat", device="cpu", **options)

    return loaded


@pytest.fixture
def cells():
    """Make a list a column of MATLAB cells."""

    def column(items):
        out = np.empty((len(items), 1), object)
        for i, item in enumerate(items):
            out[i, 0] = item
        return out

    return column


@pytest.fixture
def imfilter():
    """MATLAB's imfilter(x, w, 'same', 'replicate') of images [B, 1, H, W] by a filter [k, k]."""

    def filtered(x, weight):
        weight = torch.as_tensor(weight, dtype=torch.float32)
        edge = len(weight) // 2
        padded = F.pad(x, (edge,) * 4, mode="replicate")
        return F.conv2d(padded, weight[None, None])

    return filtered

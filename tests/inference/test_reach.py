"""Context of tiles: enough that nobody sees where they meet."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hspan.imaging import read_image
from hspan.inference import Upscaler
from hspan.inference._reach import INVISIBLE, STEPS, reach

CPU = torch.device("cpu")
PHOTOGRAPH = Path(__file__).parents[2] / "examples" / "astronaut.png"


def seam(upscaler, image):
    """The largest difference, in 8-bit steps, between an image in tiles and in one piece."""
    tiled = upscaler(image)
    whole = Upscaler(upscaler.model, tile=0, precision="fp32")(image)
    return float(np.abs(tiled - whole).max() * 255)


@pytest.mark.parametrize(("radius", "least"), [(3, 4), (4, 4), (11, 12)])
def test_local_networks_need_what_they_see(local, radius, least):
    assert reach(local(2, radius), 2, CPU) <= least


def test_pixels_alone_need_least(nearest):
    assert reach(nearest(), 2, CPU) == STEPS[0]


def test_what_never_settles_stops_where_more_does_not_help():
    class Mean(nn.Module):
        def forward(self, x):
            return (x - x.mean()).repeat_interleave(2, 2).repeat_interleave(2, 3)

    assert reach(Mean(), 2, CPU) < STEPS[-1]


def test_seams_are_invisible(local):
    """A wide network on a photograph: with the measured context, less than rounding shows."""
    image = read_image(PHOTOGRAPH).pixels[100:228, 150:310].astype(np.float32) / 255
    network = local(2, 15)
    measured = Upscaler(network, tile=32, precision="fp32")
    assert seam(measured, image) < 255 * INVISIBLE
    assert seam(Upscaler(network, tile=32, overlap=2, precision="fp32"), image) > 1


def test_seams_of_the_shipped_network():
    """Attention sees one tile: what that changes is far below what a border would."""
    image = read_image(PHOTOGRAPH).pixels[100:180, 150:250].astype(np.float32) / 255
    upscaler = Upscaler("hspan-light", tile=50, precision="fp32")
    tiled = upscaler(image)
    whole = Upscaler(upscaler.model, tile=0, precision="fp32")(image)
    difference = np.abs(tiled - whole).max(axis=2) * 255
    border = difference[:, 92:108].mean()  # where the tiles meet: SR column 100
    inside = np.concatenate([difference[:, 20:84], difference[:, 116:180]], axis=1).mean()
    assert border < 1.5 * inside + 0.1

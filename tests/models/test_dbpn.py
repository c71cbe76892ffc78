"""DBPN: projections, recurrence, the enlarged input."""

import pytest
import torch

from hspan import create_model
from hspan.models.dbpn import DownProjection, UpProjection

SMALL = {"channels": 4, "shallow_channels": 6, "num_stages": 3}


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_projections_change_the_size_exactly(scale):
    low, high = torch.rand(1, 8, 5, 7), torch.rand(1, 8, 5 * scale, 7 * scale)
    assert UpProjection(4, scale, inputs=2)(low).shape == (1, 4, 5 * scale, 7 * scale)
    assert DownProjection(4, scale, inputs=2)(high).shape == (1, 4, 5, 7)


def test_projection_corrects_what_was_lost():
    unit = UpProjection(4, 2)
    x = torch.rand(1, 4, 5, 7)
    first = unit.forth(x)
    torch.testing.assert_close(unit(x), first + unit.again(unit.back(first) - x))


def test_passes_share_their_weights():
    once, thrice = (
        create_model("dbpn-res-mr64-3", **SMALL, scale=2, num_passes=passes) for passes in (1, 3)
    )
    difference = sum(p.numel() for p in thrice.parameters())
    difference -= sum(p.numel() for p in once.parameters())
    assert difference == 2 * 4 * 3 * 9  # what the last convolution sees more of
    assert create_model("dbpn-res-mr64-3").config.num_passes == 3


def test_enlarged_input_is_bicubic():
    torch.manual_seed(0)
    x = torch.rand(1, 3, 6, 5)
    model = create_model("dbpn", **SMALL, scale=2, add_bicubic=True)
    torch.nn.init.zeros_(model.tail.weight)
    torch.nn.init.zeros_(model.tail.bias)
    # Weights of the cubic kernel with a = -0.5 a quarter of a position away.
    taps = torch.tensor([-0.0703125, 0.8671875, 0.2265625, -0.0234375])
    row = model(x)[0, :, :, 5]  # between columns 2 and 3, nearer to 2
    across = (x[0, :, :, 1:5] * taps).sum(-1)
    inner = (across[:, 1:5] * taps).sum(-1)  # between rows 2 and 3
    torch.testing.assert_close(row[:, 5], inner)

"""IGNN's graph on images of awkward shape."""

import pytest
import torch

from hspan import create_model


@pytest.mark.parametrize("size", [(8, 140), (140, 8)])
def test_narrow_strips(size):
    """Their searched window would hold fewer patches than the graph has neighbours."""
    torch.manual_seed(0)
    model = create_model("ignn", scale=2, channels=4, num_blocks=2).eval()
    with torch.no_grad():
        output = model(torch.rand(1, 3, *size))
    assert output.shape == (1, 3, 2 * size[0], 2 * size[1])
    assert output.isfinite().all()

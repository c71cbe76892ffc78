"""Sub-pixel upsampler."""

import pytest
import torch

from hspan import UsageError
from hspan.modules import Upsampler


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_size(scale):
    assert Upsampler(scale, 4)(torch.randn(1, 4, 5, 6)).shape == (1, 4, 5 * scale, 6 * scale)


def test_four_is_two_steps():
    assert len([m for m in Upsampler(4, 4) if isinstance(m, torch.nn.Conv2d)]) == 2


def test_unknown_scale():
    with pytest.raises(UsageError, match="2, 3 or 4"):
        Upsampler(5, 4)

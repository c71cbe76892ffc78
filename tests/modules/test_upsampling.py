"""Sub-pixel upsampler."""

import pytest
import torch

from hspan import UsageError
from hspan.modules import Upsampler


@pytest.mark.parametrize("activation", [False, True])
@pytest.mark.parametrize("out_channels", [None, 6])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_size(scale, out_channels, activation):
    out = Upsampler(scale, 4, out_channels, activation)(torch.randn(1, 4, 5, 6))
    assert out.shape == (1, out_channels or 4, 5 * scale, 6 * scale)


def test_four_is_two_steps():
    assert len([m for m in Upsampler(4, 4) if isinstance(m, torch.nn.Conv2d)]) == 2


def test_unknown_scale():
    with pytest.raises(UsageError, match="2, 3, 4 or 8"):
        Upsampler(5, 4)


def test_activation_stands_before_the_shuffle():
    torch.manual_seed(0)
    upsampler = Upsampler(2, 4, activation=True)
    x = torch.randn(1, 4, 5, 6)
    torch.testing.assert_close(upsampler(x), torch.pixel_shuffle(upsampler[0](x).clamp(min=0), 2))

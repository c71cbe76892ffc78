import pytest
import torch
from torch import nn

from hspan.errors import UsageError
from hspan.modules.convolutions import carry, conv_chain, start_lively


def test_layers():
    chain = conv_chain((1, 4, 6, 2), kernel_sizes=(5, 1, 3), dilations=(1, 1, 2), bias=False)
    assert [type(m) for m in chain] == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU, nn.Conv2d]
    assert [m.kernel_size[0] for m in chain[::2]] == [5, 1, 3]
    assert [m.dilation[0] for m in chain[::2]] == [1, 1, 2]
    assert all(m.bias is None for m in chain[::2])
    assert chain(torch.rand(1, 1, 7, 6)).shape == (1, 2, 7, 6)


def test_even_kernels_are_refused():
    with pytest.raises(UsageError, match="odd"):
        conv_chain((1, 1), kernel_sizes=4)


def test_carried_channels_pass_every_convolution():
    torch.manual_seed(0)
    chain = conv_chain((3, 8, 8, 3))
    for conv in chain[::2]:
        carry(conv, count=3, spread=0.0)
    x = torch.rand(1, 3, 6, 5)
    torch.testing.assert_close(chain(x), x)


@pytest.mark.parametrize(
    "conv", [nn.Conv2d(32, 32, 3, padding=1), nn.ConvTranspose2d(32, 32, 4, 2, 1)]
)
def test_signals_keep_their_size(conv):
    """Over six layers; PyTorch's own start loses a factor of more than 200."""
    torch.manual_seed(0)
    x = torch.randn(1, 32, 16, 16)
    for _ in range(6):
        start_lively(conv)
        x = conv(x.relu())[..., :16, :16].detach()
    assert 0.2 < x.std() < 5

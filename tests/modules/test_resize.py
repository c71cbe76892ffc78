"""Resizing inside networks gives what ``hspan.imaging`` gives."""

import pytest
import torch

from hspan.errors import UsageError
from hspan.imaging import degrade, imresize
from hspan.modules import BicubicResize, BlurDecimate


def image(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("up", "down"), [(2, 1), (3, 1), (4, 1), (1, 2), (1, 3), (1, 4), (3, 4)])
@pytest.mark.parametrize("size", [(24, 12), (48, 36), (12, 12)])
def test_bicubic(up, down, size):
    x = image(*size)
    expected = imresize(x, up / down)
    torch.testing.assert_close(BicubicResize(up, down)(x), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 3)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_sizes_below_the_kernel(size, scale):
    x = image(*size)
    resized = BicubicResize(scale)(x)
    torch.testing.assert_close(resized, imresize(x, scale), rtol=0, atol=1e-13)


def test_sides_that_are_no_multiples():
    x = image(11, 13)
    torch.testing.assert_close(BicubicResize(1, 2)(x), imresize(x, 0.5), rtol=0, atol=1e-13)
    assert BicubicResize(2, 4)(x).equal(BicubicResize(1, 2)(x))


@pytest.mark.parametrize("size", [(3, 3), (9, 12), (33, 27)])
def test_blur_and_decimation(size):
    x = image(*size)
    torch.testing.assert_close(BlurDecimate()(x), degrade(x, 3, "BD"), rtol=0, atol=1e-13)


def test_autocast_leaves_the_precision_alone():
    x = image(8, 8).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert BicubicResize(2)(x).equal(BicubicResize(2)(x.clone()))
        low = BicubicResize(2)(x)
    assert low.equal(BicubicResize(2)(x))


def test_derivative():
    x = image(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(BicubicResize(2), x)
    assert torch.autograd.gradcheck(BicubicResize(1, 2), x)


def test_impossible_ratio():
    with pytest.raises(UsageError, match="up and down must be at least 1"):
        BicubicResize(0)

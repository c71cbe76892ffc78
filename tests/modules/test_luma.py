"""Luma in and out of colour images, against conversion by the standard's matrix."""

import torch

from hspan.modules.luma import luma, move_luma, replace_luma

# ITU-R BT.601, 8-bit studio swing: rows Y, Cb, Cr; the reciprocal of MATLAB's ycbcr2rgb.
MATRIX = (
    torch.tensor(
        [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]],
        dtype=torch.float64,
    )
    / 255
)


def ycbcr(image):
    offset = torch.tensor([16, 128, 128], dtype=torch.float64).view(3, 1, 1) / 255
    return torch.einsum("ij,bjhw->bihw", MATRIX, image) + offset


def image(seed=0):
    return torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=torch.manual_seed(seed))


def test_luma():
    torch.testing.assert_close(luma(image()), ycbcr(image())[:, :1])


def test_replacing_luma_keeps_the_colour_differences():
    y = torch.rand(2, 1, 4, 5, dtype=torch.float64, generator=torch.manual_seed(1))
    changed = ycbcr(replace_luma(image(), y))
    torch.testing.assert_close(changed[:, :1], y, rtol=0, atol=1e-12)
    # The matrix is rounded to three decimals: its rows of colour sum to no more than 1e-5.
    torch.testing.assert_close(changed[:, 1:], ycbcr(image())[:, 1:], rtol=0, atol=1e-5)


def test_moving_luma_keeps_the_images_precision():
    x = image().float()
    change = torch.full((2, 1, 4, 5), 0.25, dtype=torch.bfloat16)
    moved = move_luma(x, change)
    assert moved.dtype == torch.float32
    torch.testing.assert_close(luma(moved) - luma(x), torch.full_like(luma(x), 0.25))

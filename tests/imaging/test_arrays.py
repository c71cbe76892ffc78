"""Rounding to 8 bits."""

import numpy as np
import pytest

from hspan.imaging import to_uint8


def test_8_bits_stay():
    pixels = np.arange(256, dtype=np.uint8)
    assert to_uint8(pixels) is pixels


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        # 65535 / 255 = 257: multiples come back exactly, the middle goes to the even neighbour.
        (np.array([0, 128, 129, 257, 65535], np.uint16), [0, 0, 1, 1, 255]),
        (np.array([-1, 0, 0.5, 1, 2], np.float32), [0, 0, 128, 255, 255]),
    ],
)
def test_deeper_images_are_rounded(pixels, expected):
    rounded = to_uint8(pixels)
    assert rounded.dtype == np.uint8
    assert rounded.tolist() == expected

import numpy as np
import pytest

from hspan.errors import InputError
from hspan.imaging import Picture


def test_sizes():
    picture = Picture(np.zeros((4, 6, 3), np.uint16), np.zeros((4, 6), np.uint16))
    assert (picture.height, picture.width, picture.channels) == (4, 6, 4)
    assert picture.dtype == np.uint16


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (np.zeros((4, 6), np.uint8), None),
        (np.zeros((4, 6, 2), np.uint8), None),
        (np.zeros((0, 6, 3), np.uint8), None),
        (np.zeros((4, 6, 3), np.float64), None),
        (np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6, 1), np.uint8)),
        (np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint16)),
    ],
)
def test_wrong_arrays(pixels, alpha):
    with pytest.raises(InputError, match="must"):
        Picture(pixels, alpha)

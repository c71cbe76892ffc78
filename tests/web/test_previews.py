import numpy as np
import pytest

from hspan.imaging import Picture, imresize
from hspan.web._previews import SIDE, before_and_after, close_up, part_around, shown


def test_what_the_screen_shows(noise):
    grey = noise(5, 6, 1, dtype=np.uint16)
    alpha = np.zeros((5, 6), np.uint16)
    alpha[0, 0] = 65535
    image = shown(Picture(grey, alpha))
    assert image.shape == (5, 6, 3)
    assert image.dtype == np.uint8
    assert (image[1:] == 255).all()
    assert (image[0, 0] == round(int(grey[0, 0, 0]) / 257)).all()


def test_before_and_after_are_of_one_size(noise):
    lr, sr = noise(10, 12, 3), noise(20, 24, 3)
    before, after = before_and_after(lr, sr)
    np.testing.assert_array_equal(before, imresize(lr, scale=2))
    np.testing.assert_array_equal(after, sr)


def test_large_results_are_shown_smaller(noise):
    before, after = before_and_after(noise(4, 1000, 3), noise(8, 2000, 3))
    assert before.shape == after.shape == (6, SIDE, 3)


@pytest.mark.parametrize("at", [(0, 0), (50, 30), (99, 79)])
def test_close_up(noise, at):
    lr, sr, truth = noise(80, 100, 3), noise(160, 200, 3), noise(160, 200, 3, seed=1)
    image = close_up(lr, sr, truth, at)
    side, times = 96, 4
    assert image.shape == (side * times, 3 * side * times + 2 * 8, 3)
    left, top = min(max(at[0] - 24, 0), 52) * 2, min(max(at[1] - 24, 0), 32) * 2
    parts = [image[::times, i * (side * times + 8) :][:, : side * times : times] for i in range(3)]
    window = (slice(top, top + side), slice(left, left + side))
    for part, whole in zip(parts, (imresize(lr, scale=2), sr, truth), strict=True):
        np.testing.assert_array_equal(part, whole[window])


def test_close_up_of_a_small_image(noise):
    assert close_up(noise(3, 5, 3), noise(6, 10, 3), None, (4, 2)).shape[0] == 6 * 38


def test_part_around_a_pixel():
    assert part_around((100, 300), (290, 10), 64) == (slice(0, 64), slice(236, 300), (54, 10))
    assert part_around((40, 50), (7, 8), 64) == (slice(0, 40), slice(0, 50), (7, 8))

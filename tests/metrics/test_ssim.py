import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d

from hspan.errors import InputError
from hspan.metrics import ssim


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def by_definition(x, y):
    """Wang's ssim_index.m, line for line, on one channel."""
    taps = np.arange(-5, 6)
    window = np.exp(-(taps[:, None] ** 2 + taps**2) / (2 * 1.5**2))
    window /= window.sum()
    x, y = x.astype(float), y.astype(float)
    mu1, mu2 = convolve2d(x, window, "valid"), convolve2d(y, window, "valid")
    sigma1_sq = convolve2d(x * x, window, "valid") - mu1**2
    sigma2_sq = convolve2d(y * y, window, "valid") - mu2**2
    sigma12 = convolve2d(x * y, window, "valid") - mu1 * mu2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    scores = ((2 * mu1 * mu2 + c1) * (2 * sigma12 + c2)) / (
        (mu1**2 + mu2**2 + c1) * (sigma1_sq + sigma2_sq + c2)
    )
    return scores.mean()


@pytest.mark.parametrize("shape", [(11, 11), (11, 50), (40, 75)])
def test_against_the_definition(shape):
    hr = noise(*shape, seed=1)
    sr = np.clip(hr + noise(*shape, seed=2) * 0.2 - 25, 0, 255).astype(np.uint8)
    assert ssim(sr, hr, 0, grey="raw") == pytest.approx(by_definition(sr, hr), abs=1e-12)
    colour_sr, colour_hr = np.stack([sr, hr, sr], 2), np.stack([hr, hr, sr], 2)
    expected = (by_definition(sr, hr) + 2) / 3  # the second and third channels are equal
    assert ssim(colour_sr, colour_hr, 0, channel="rgb") == pytest.approx(expected, abs=1e-12)


def test_flat_images_by_hand():
    # Without variance the second factor is 1, and means of 100 and 110 with C1 = 2.55² = 6.5025
    # give (2·100·110 + 6.5025) / (100² + 110² + 6.5025) = 22006.5025 / 22106.5025 = 0.99547644.
    flat = [np.full((13, 12), value, np.uint8) for value in (100, 110)]
    assert ssim(*flat, 0, grey="raw") == pytest.approx(22006.5025 / 22106.5025, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(11, 40), st.integers(11, 40), st.integers(0, 9))
def test_at_most_one(height, width, seed):
    sr, hr = noise(height, width, 3, seed=seed), noise(height, width, 3, seed=seed + 10)
    assert ssim(hr, hr, 0) == 1
    assert -1 <= ssim(sr, hr, 0) < 1


def test_needs_a_whole_window():
    image = noise(14, 20, 3)
    assert ssim(image, image, 1) == 1
    with pytest.raises(InputError, match="11×11 pixels inside the border, got 16×10"):
        ssim(image, image, 2)

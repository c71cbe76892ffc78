import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspan.metrics import psnr


def flat(value, shape=(4, 5, 3)):
    return np.full(shape, value, np.uint8)


def test_equal_images():
    assert psnr(flat(7), flat(7), 0) == math.inf


def test_rgb_by_hand():
    # One of 4·5·3 = 60 values differs by 30: mean squared error 900 / 60 = 15.
    sr = flat(100)
    sr[1, 2, 1] = 130
    expected = 10 * math.log10(255**2 / 15)  # 36.37 dB
    assert psnr(sr, flat(100), 0, channel="rgb") == pytest.approx(expected, abs=1e-9)


def test_luma_by_hand():
    # G off by 51 = 0.2 everywhere: Y is off by 0.2 · 128.553 = 25.7106, so 20 log10(255 / 25.7106).
    sr = flat(100)
    sr[:, :, 1] += 51
    assert psnr(sr, flat(100), 0) == pytest.approx(20 * math.log10(255 / 25.7106), abs=1e-9)


def test_luma_is_not_rounded():
    # B off by 1: Y is off by 24.966 / 255 = 0.0979, which rounding Y would mostly hide.
    sr = flat(100)
    sr[:, :, 2] += 1
    assert psnr(sr, flat(100), 0) == pytest.approx(20 * math.log10(255**2 / 24.966), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 255), st.integers(0, 255))
def test_flat_grey_images(a, b):
    # Replicated grey spans 16..235 in Y, so a difference d counts 219/255 of itself.
    sr, hr = flat(a, (4, 5)), flat(b, (4, 5))
    if a == b:
        assert psnr(sr, hr, 0) == psnr(sr, hr, 0, grey="raw") == math.inf
    else:
        raw = 20 * math.log10(255 / abs(a - b))
        assert psnr(sr, hr, 0, grey="raw") == pytest.approx(raw, abs=1e-9)
        assert psnr(sr, hr, 0) == pytest.approx(raw + 20 * math.log10(255 / 219), abs=1e-9)

"""What PSNR and SSIM share: inputs, border, luma, grey, and the published Bicubic rows."""

import numpy as np
import pytest
import torch
from PIL import Image

from hspan.errors import InputError, UsageError
from hspan.imaging import crop_to_multiple, degrade, imresize
from hspan.metrics import psnr, ssim

both = pytest.mark.parametrize("metric", [psnr, ssim])


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@both
def test_border_is_left_out(metric):
    sr, hr = noise(24, 26, 3, seed=1), noise(24, 26, 3, seed=2)
    inner = (slice(3, -3), slice(3, -3))
    assert metric(sr, hr, 3) == metric(sr[inner], hr[inner], 0)
    changed = sr.copy()
    changed[:3] = changed[:, -3:] = 0
    assert metric(changed, hr, 3) == metric(sr, hr, 3)
    assert metric(changed, hr, 2) != metric(sr, hr, 2)


@both
def test_symmetric(metric):
    sr, hr = noise(20, 20, 3, seed=1), noise(20, 20, 3, seed=2)
    for channel in ("y", "rgb"):
        assert metric(sr, hr, 2, channel) == metric(hr, sr, 2, channel)


@both
def test_grey_replicated_or_raw(metric):
    sr, hr = noise(20, 22, seed=1), noise(20, 22, seed=2)
    colour = [np.repeat(image[:, :, None], 3, 2) for image in (sr, hr)]
    assert metric(sr, hr, 2) == metric(*colour, 2)
    assert metric(sr[:, :, None], hr, 2) == metric(sr, hr, 2)
    # On their own values: exactly what each of three equal channels gives.
    assert metric(sr, hr, 2, grey="raw") == pytest.approx(metric(*colour, 2, channel="rgb"))
    assert metric(sr, hr, 2, grey="raw") != pytest.approx(metric(sr, hr, 2), abs=1e-6)
    # RGB images have no grey values: the option does not touch them.
    assert metric(*colour, 2, grey="raw") == metric(*colour, 2)


@both
@pytest.mark.parametrize(
    ("sr", "message"),
    [
        (noise(20, 21, 3), "differ in shape"),
        (noise(20, 20), "differ in shape"),
        (noise(20, 20, 4), r"sr must be height×width\(×1\) or height×width×3"),
        (np.zeros((20, 20, 3)), "sr must be a uint8 array, got float64"),
        (np.zeros((20, 20, 3), np.uint16), "uint16"),
        (torch.zeros(20, 20, 3, dtype=torch.uint8), "got Tensor"),
    ],
)
def test_wrong_images(metric, sr, message):
    with pytest.raises(InputError, match=message):
        metric(sr, noise(20, 20, 3), 0)


@both
def test_border_too_big(metric):
    image = noise(20, 30, 3)
    with pytest.raises(InputError, match="border of 10 leaves nothing of an image of 30×20"):
        metric(image, image, 10)


@both
@pytest.mark.parametrize(
    "arguments",
    [
        {"border": -1},
        {"border": 1.5},
        {"border": 0, "channel": "Y"},
        {"border": 0, "grey": "rgb"},
    ],
)
def test_wrong_calls(metric, arguments):
    image = noise(20, 20, 3)
    with pytest.raises(UsageError, match="must be"):
        metric(image, image, **arguments)


# Tables II and III, rows "Bicubic", Set5.
@pytest.mark.parametrize(
    ("kind", "scale", "published_psnr", "published_ssim", "ssim_tolerance"),
    [
        ("BI", 2, 33.66, 0.9299, 0.001),
        ("BI", 3, 30.39, 0.8682, 0.001),
        ("BI", 4, 28.42, 0.8104, 0.001),
        ("BD", 3, 28.78, 0.8308, 0.0015),
    ],
)
def test_published_bicubic_rows(
    shared_data, kind, scale, published_psnr, published_ssim, ssim_tolerance
):
    scores = []
    for path in sorted((shared_data / "benchmarks" / "Set5" / "HR").glob("*.png")):
        with Image.open(path) as file:
            hr = crop_to_multiple(np.array(file), scale)
        sr = imresize(degrade(hr, scale, kind), scale)
        scores.append((psnr(sr, hr, scale), ssim(sr, hr, scale)))
    assert len(scores) == 5
    mean_psnr, mean_ssim = np.mean(scores, 0)
    assert mean_psnr == pytest.approx(published_psnr, abs=0.02)
    assert mean_ssim == pytest.approx(published_ssim, abs=ssim_tolerance)

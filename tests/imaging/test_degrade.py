import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from hspan.errors import InputError, UsageError
from hspan.imaging import crop_to_multiple, degrade, imresize


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_of_the_cropped_image(scale):
    image = noise(33, 46, 3)
    lr = degrade(image, scale)
    assert lr.shape == (33 // scale, 46 // scale, 3)
    np.testing.assert_array_equal(lr, imresize(crop_to_multiple(image, scale), 1 / scale))


@pytest.mark.parametrize("shape", [(33, 46, 3), (3, 4), (9, 100), (120, 35)])
def test_blur_against_its_definition(shape):
    image = noise(*shape)
    # fspecial('gaussian', 7, 1.6), imfilter(..., 'replicate'), (2:3:end, 2:3:end) counted from 1
    y, x = np.mgrid[-3:4, -3:4]
    kernel = np.exp(-(x**2 + y**2) / (2 * 1.6**2))
    kernel /= kernel.sum()
    cropped = image[: shape[0] // 3 * 3, : shape[1] // 3 * 3].astype(float)
    cropped = cropped.reshape(*cropped.shape[:2], -1)
    planes = [correlate(plane, kernel, mode="nearest") for plane in np.moveaxis(cropped, 2, 0)]
    blurred = np.stack(planes, 2)[1::3, 1::3]
    expected = np.floor(blurred + 0.5).reshape(degrade(image, 3, "BD").shape)
    np.testing.assert_array_equal(degrade(image, 3, "BD"), expected)


def test_blurred_impulse_by_hand():
    image = np.zeros((9, 9), np.uint8)
    image[4, 4] = 255
    # exp(-d² / 5.12) at d = 0, 1, 2, 3: 1, 0.822578, 0.457833, 0.172422; with both sides they sum
    # to 3.905666. Outputs lie at 1, 4, 7, so at d = 3, 0, 3: weights 0.044147, 0.256038, 0.044147.
    # 255 · 0.256038² = 16.7, 255 · 0.256038 · 0.044147 = 2.9, 255 · 0.044147² = 0.5 (0.497).
    assert degrade(image, 3, "BD").tolist() == [[0, 3, 0], [3, 17, 3], [0, 3, 0]]


@pytest.mark.parametrize("kind", ["BI", "BD"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_kinds_and_dtypes(kind, dtype):
    image = noise(16, 20, 3).astype(dtype)
    lr = degrade(image, 3, kind)
    assert lr.dtype == dtype
    assert lr.shape == (5, 6, 3)
    tensor = degrade(torch.from_numpy(image).permute(2, 0, 1), 3, kind)
    np.testing.assert_allclose(tensor.permute(1, 2, 0).numpy(), lr, rtol=1e-5, atol=1e-3)


def test_crop_is_a_view_from_the_top_left():
    image = noise(7, 9)
    cropped = crop_to_multiple(image, 4)
    assert np.shares_memory(cropped, image)
    np.testing.assert_array_equal(cropped, image[:4, :8])
    assert crop_to_multiple(torch.zeros(2, 3, 7, 9), 4).shape == (2, 3, 4, 8)


@pytest.mark.parametrize(
    ("scale", "kind", "message"),
    [
        (2, "BD", "scale 3 only"),
        (3, "bd", "kind must be"),
        (0, "BI", "whole number"),
        (2.5, "BI", "whole number"),
    ],
)
def test_wrong_calls(scale, kind, message):
    with pytest.raises(UsageError, match=message):
        degrade(noise(12, 12), scale, kind)


def test_too_small():
    with pytest.raises(InputError, match="2×9 pixels is too small for scale 3"):
        degrade(noise(9, 2), 3)

"""imresize against real MATLAB outputs, cases worked by hand, and properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from hspan.errors import InputError, UsageError
from hspan.imaging import imresize

SCALES = st.sampled_from([1 / 4, 1 / 3, 0.4, 1 / 2, 0.9, 1.0, 1.7, 2, 3, 4])
FLOAT_IMAGES = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=3, max_side=12),
    elements=st.floats(-10, 10, width=32),
)
quick = settings(max_examples=40, deadline=None)


# Keys' kernel with a = -1/2 at the distances that occur when halving, stretched by two:
# h(1/4) = 1.5/64 - 2.5/16 + 1 = 111/128      h(5/4) = -125/128 + 62.5/16 - 5 + 2 = -9/128
# h(3/4) = 40.5/64 - 22.5/16 + 1 = 29/128     h(7/4) = -343/128 + 122.5/16 - 7 + 2 = -3/128
# so that output m, at 2m + 1/2, has the weights (-3, -9, 29, 111, 111, 29, -9, -3) / 256.
# An impulse of 128 at 3 is 5/2, 1/2, 3/2 and 7/2 away from outputs 0 to 3:
# (-9, 111, 29, -3) · 128 / 256 = -4.5, 55.5, 14.5, -1.5: two ties, rounded away from zero.
HALVED_IMPULSE = [0, 56, 15, 0]


def test_impulse_by_hand():
    impulse = np.zeros((8, 1), np.uint8)
    impulse[3] = 128
    assert imresize(impulse, size=(4, 1))[:, 0].tolist() == HALVED_IMPULSE
    assert imresize(impulse.T.copy(), size=(1, 4))[0].tolist() == HALVED_IMPULSE


def test_8_bit_is_rounded_after_each_pass_rows_first():
    image = np.zeros((8, 8), np.uint8)
    image[3, 3] = 128
    # Rows first: column 3 becomes 0, 56, 15, 0. Then 56 · (-9, 111, 29, -3) / 256 = -2.0, 24.3,
    # 6.3, -0.7 and 15 · (...) / 256 = -0.5, 6.504, 1.7, -0.2. Without rounding in between, 6.504
    # would be 14.5 · 111 / 256 = 6.3; columns first would give the transpose.
    assert imresize(image, 1 / 2).tolist() == [[0, 0, 0, 0], [0, 24, 6, 0], [0, 7, 2, 0], [0] * 4]


def test_smaller_scale_comes_first():
    image = np.zeros((8, 16), np.uint8)
    image[3, 6:8] = 128
    # Columns (16 -> 4) shrink more than rows (8 -> 4), so they are combined, and rounded, first.
    columns_first = imresize(imresize(image, size=(8, 4)), size=(4, 4))
    rows_first = imresize(imresize(image, size=(4, 16)), size=(4, 4))
    assert (columns_first != rows_first).any()
    np.testing.assert_array_equal(imresize(image, size=(4, 4)), columns_first)


def test_symmetric_border_by_hand():
    # Doubling [0, 64]: output 0 lies at -1/4, its taps at -2, -1, 0, 1 mirror to 1, 0, 0, 1 with
    # weights h(7/4), h(3/4), h(1/4), h(5/4) = (-3, 29, 111, -9) / 128: 64 · (-3 - 9) / 128 = -6.
    # Output 1 lies at 1/4, taps -1, 0, 1, 2 mirror to 0, 0, 1, 1 with (-9, 111, 29, -3) / 128:
    # 64 · (29 - 3) / 128 = 13. The rest follows from symmetry about 32.
    row = np.array([[0.0, 64.0]])
    np.testing.assert_array_equal(imresize(row, size=(1, 4)), [[-6, 13, 51, 70]])
    assert imresize(row.astype(np.uint8), size=(1, 4)).tolist() == [[0, 13, 51, 70]]


def test_ramp_stays_a_ramp_away_from_the_border():
    ramp = np.arange(20.0)[None]
    doubled = imresize(ramp, 2)[0]
    expected = (np.arange(40) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(doubled[4:-4], expected[4:-4], atol=1e-12)


def test_16_bit_clips_at_its_own_maximum():
    edge = np.zeros((1, 8), np.uint16)
    edge[:, 4:] = 65535
    doubled = imresize(edge, size=(1, 16))[0]
    exact = imresize(edge.astype(float), size=(1, 16))[0]
    assert exact.max() > 65535 + 1000  # bicubic overshoots at an edge
    np.testing.assert_array_equal(doubled, np.floor(exact + 0.5).clip(0, 65535))


@pytest.mark.parametrize("scale", [2, 4])
def test_bit_exact_with_matlab(shared_data, scale):
    # golden/ holds MATLAB's imwrite(imresize(imread(HR), 1/scale)), HR cropped to a multiple.
    paths = sorted((shared_data / "benchmarks" / "Set5" / "HR").glob("*.png"))
    assert len(paths) == 5
    for path in paths:
        with Image.open(path) as file:
            hr = np.array(file)
        hr = hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale]
        name = f"{path.stem}x{scale}.png"
        with Image.open(shared_data / "golden" / "Set5_LR_matlab" / f"X{scale}" / name) as file:
            np.testing.assert_array_equal(imresize(hr, 1 / scale), np.array(file))


@quick
@given(
    st.integers(1, 70),
    st.integers(1, 12),
    SCALES,
    st.integers(0, 255),
    st.sampled_from([np.uint8, np.uint16, np.float32, np.float64]),
)
def test_constant_stays_constant(height, width, scale, value, dtype):
    result = imresize(np.full((height, width, 3), value, dtype), scale)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, value, rtol=1e-5 if dtype == np.float32 else 1e-12)


@quick
@given(FLOAT_IMAGES, SCALES, st.floats(-3, 3))
def test_linear_for_floats(image, scale, factor):
    other = np.cos(np.arange(image.size)).reshape(image.shape)
    both = imresize(factor * image + other, scale)
    np.testing.assert_allclose(
        both, factor * imresize(image, scale) + imresize(other, scale), atol=1e-10
    )


@quick
@given(FLOAT_IMAGES, SCALES)
def test_size_rule(image, scale):
    height, width = image.shape[:2]
    expected = (math.ceil(scale * height), math.ceil(scale * width), *image.shape[2:])
    assert imresize(image, scale).shape == expected


@quick
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1 / 4, 1 / 3, 1 / 2, 2, 3, 4]))
def test_flips_commute(rows, columns, scale):
    step = round(1 / scale) if scale < 1 else 1
    image = np.random.default_rng(rows * 10 + columns).integers(
        0, 256, (rows * step, columns * step, 3), np.uint8
    )
    for flip in (np.flipud, np.fliplr):
        np.testing.assert_array_equal(imresize(flip(image), scale), flip(imresize(image, scale)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("arguments", [{"scale": 1 / 3}, {"scale": 2}, {"size": (50, 7)}])
def test_tensors_give_what_arrays_give(dtype, arguments):
    rng = np.random.default_rng(3)
    image = (rng.random((37, 41, 3)) * (255 if dtype == np.uint8 else 1000)).astype(dtype)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    result = imresize(tensor, **arguments)
    assert result.dtype == tensor.dtype
    np.testing.assert_allclose(
        result.permute(1, 2, 0).numpy(), imresize(image, **arguments), rtol=2e-5, atol=1e-3
    )


def test_uint8_tensors_are_exact_and_batched():
    batch = np.random.default_rng(4).integers(0, 256, (2, 3, 16, 12), np.uint8)
    result = imresize(torch.from_numpy(batch), 1 / 2)
    for index, image in enumerate(batch):
        expected = imresize(image.transpose(1, 2, 0), 1 / 2).transpose(2, 0, 1)
        np.testing.assert_array_equal(result[index].numpy(), expected)


def test_gradient():
    image = torch.rand(
        2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    assert torch.autograd.gradcheck(lambda x: imresize(x, 0.7), image)
    assert torch.autograd.gradcheck(lambda x: imresize(x, size=(9, 4)), image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_single(dtype):
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    result = imresize(image, 1 / 2)
    assert torch.equal(result, imresize(image.float(), 1 / 2).to(dtype))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 1, 3)])
def test_tiny_images(shape):
    image = np.full(shape, 77, np.uint8)
    for scale in (1 / 4, 2, 4):
        assert (imresize(image, scale) == 77).all()


def test_views_and_read_only_arrays():
    image = np.random.default_rng(5).integers(0, 256, (24, 30, 4), np.uint8)
    view = image[::2, ::-1, :3]
    view.flags.writeable = False
    np.testing.assert_array_equal(imresize(view, 1 / 2), imresize(view.copy(), 1 / 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either scale or size"),
        ({"scale": 2, "size": (4, 4)}, "either scale or size"),
        ({"scale": 0}, "above 0"),
        ({"scale": float("nan")}, "above 0"),
        ({"size": (0, 4)}, "two whole numbers"),
        ({"size": (2.5, 4)}, "two whole numbers"),
        ({"size": 4}, "two whole numbers"),
    ],
)
def test_wrong_calls(arguments, message):
    with pytest.raises(UsageError, match=message):
        imresize(np.zeros((4, 4)), **arguments)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 4)), "empty"),
        (np.zeros((4, 4, 0)), "empty"),
        (np.zeros(4), "height×width"),
        (np.zeros((1, 4, 4, 3)), "height×width"),
        (np.zeros((4, 4), np.int32), "int32"),
        (np.zeros((4, 4), bool), "bool"),
        (torch.zeros(4), "height, width"),
        (torch.zeros(4, 4, dtype=torch.int64), "int64"),
        ([[0.0, 1.0]], "list"),
    ],
)
def test_wrong_images(image, message):
    with pytest.raises(InputError, match=message):
        imresize(image, 2)

"""Every kind of file becomes 8-bit RGB, or a sentence."""

import numpy as np
import pytest
from PIL import Image

from hspan.data import ImagePair, load_pair, read_rgb
from hspan.errors import InputError
from hspan.imaging import degrade, imresize


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK"])
def test_eight_bit_files(tmp_path, write, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    pixels = write(path, mode=mode)
    read = read_rgb(path)
    assert read.shape == (30, 40, 3)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)


def test_orientation_is_applied(tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), np.rot90(pixels, -1))


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_damaged_files(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png: not a readable image"):
        read_rgb(tmp_path / "a.png")


def test_truncated_file(tmp_path, write):
    write(tmp_path / "a.jpg", 200, 200)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="truncated"):
        read_rgb(tmp_path / "a.jpg")


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_rgb(tmp_path / "a.png")


def test_pair_is_cropped_and_reduced(tmp_path, write):
    pixels = write(tmp_path / "a.png", 41, 32)
    hr, lr = load_pair(ImagePair("a", tmp_path / "a.png"), 3)
    np.testing.assert_array_equal(hr, pixels[:30, :39])
    np.testing.assert_array_equal(lr, degrade(hr, 3))


def test_pair_of_an_image_reduced_first(tmp_path, write):
    pixels = write(tmp_path / "a.png", 41, 32)
    given = write(tmp_path / "b.png", 13, 10, seed=1)
    hr, lr = load_pair(ImagePair("a", tmp_path / "a.png", tmp_path / "b.png"), 3, size=0.6)
    np.testing.assert_array_equal(hr, imresize(pixels, 0.6)[:18, :24])
    np.testing.assert_array_equal(lr, degrade(hr, 3))
    assert lr.shape != given.shape  # the file belongs to the image in its own size
    with pytest.raises(InputError, match="3×2 is too small for scale 3"):
        load_pair(ImagePair("a", tmp_path / "a.png"), 3, size=0.06)


def test_given_lr_is_used_as_it_is(tmp_path, write):
    write(tmp_path / "a.png", 40, 30)
    given = write(tmp_path / "b.png", 20, 15, seed=1)
    _, lr = load_pair(ImagePair("a", tmp_path / "a.png", tmp_path / "b.png"), 2)
    np.testing.assert_array_equal(lr, given)


def test_sizes_must_fit(tmp_path, write):
    write(tmp_path / "a.png", 40, 30)
    write(tmp_path / "b.png", 20, 14)
    with pytest.raises(InputError, match=r"b\.png: is 20×14, but a\.png reduced by 2 is 20×15"):
        load_pair(ImagePair("a", tmp_path / "a.png", tmp_path / "b.png"), 2)
    with pytest.raises(InputError, match="40×30 is too small for scale 31"):
        load_pair(ImagePair("a", tmp_path / "a.png"), 31)

from dataclasses import replace

import numpy as np
import pytest

from hspan.errors import InputError
from hspan.imaging import (
    IMAGE_SUFFIXES,
    WRITABLE_SUFFIXES,
    ImageInfo,
    Picture,
    best_suffix,
    images_in,
    probe_image,
)
from hspan.imaging._formats import recognise

RGB = ImageInfo(width=40, height=30, channels=3, dtype=np.dtype(np.uint8), pages=1, format="JPEG")


@pytest.mark.parametrize(
    ("info", "wanted", "expected"),
    [
        (RGB, ".JPG", ".jpg"),
        (RGB, ".webp", ".webp"),
        (RGB, ".avif", ".avif"),
        (replace(RGB, width=20000), ".avif", ".png"),
        (replace(RGB, dtype=np.dtype(np.uint16)), ".avif", ".png"),
        (replace(RGB, dtype=np.dtype(np.uint16), bits=10), ".avif", ".avif"),
        (replace(RGB, pages=3), ".png", ".tif"),
        (replace(RGB, pages=3), ".tiff", ".tiff"),
        (RGB, ".gif", ".png"),
        (RGB, "", ".png"),
        (replace(RGB, channels=4), ".jpg", ".png"),
        (replace(RGB, channels=4), ".webp", ".webp"),
        (replace(RGB, dtype=np.dtype(np.uint16)), ".jpg", ".png"),
        (replace(RGB, dtype=np.dtype(np.uint16)), ".tiff", ".tiff"),
        (replace(RGB, dtype=np.dtype(np.float32)), ".png", ".tif"),
        (replace(RGB, width=20000), ".webp", ".png"),
        (replace(RGB, width=20000), ".jpg", ".jpg"),
    ],
)
def test_best_suffix_keeps_everything(info, wanted, expected):
    assert best_suffix(info, wanted) == expected


def test_best_suffix_of_a_picture():
    picture = Picture(np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4), np.uint8))
    assert best_suffix(picture, ".jpeg") == ".png"
    assert best_suffix(replace(picture, alpha=None), ".jpeg") == ".jpeg"


def test_what_can_be_written_can_be_read():
    assert WRITABLE_SUFFIXES < IMAGE_SUFFIXES


def test_the_beginning_of_anything_is_looked_at_without_harm(tmp_path):
    """Fuzzing: what looks like a bitmap and ends before its header does."""
    whole = b"BMR\0\0\0\0\0\0\0" + b">I\0\0" + b"\x28\0"
    for end in range(len(whole)):
        assert recognise(whole[:end]) in (None, "BMP")
        (tmp_path / "a.bmp").write_bytes(whole[:end])
        with pytest.raises(InputError):
            probe_image(tmp_path / "a.bmp")
    assert recognise(whole) == "BMP"


def test_images_of_a_folder(tmp_path):
    for name in ("b.png", "a.JPG", ".hidden.png", "._a.jpg", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in images_in(tmp_path)] == ["a.JPG", "b.png"]

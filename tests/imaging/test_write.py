"""Writing: what independent readers find in the files."""

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from hspan.errors import InputError, UsageError
from hspan.imaging import WRITABLE_SUFFIXES, Picture, read_image, write_image

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS = [".png", ".tif", ".webp"]


def noise(*shape, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.random(shape, dtype) * 3 - 1
    return rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def a_picture(channels=3, dtype=np.uint8, height=20, width=30, **fields):
    pixels = noise(height, width, 1 if channels < 3 else 3, dtype=dtype)
    alpha = noise(height, width, dtype=dtype, seed=1) if channels in (2, 4) else None
    return Picture(pixels, alpha, **fields)


def joined(picture):
    if picture.alpha is None:
        return picture.pixels
    return np.dstack([picture.pixels, picture.alpha])


def some_exif():
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x013B] = "An artist with a long name"
    exif[0x0112] = 1
    exif.get_ifd(0x8769).update(
        {
            0x829A: (1, 125),
            0x9003: "2020:01:01 00:00:00",
            0x927C: b"maker's note",
            0xA002: 15,
            0xA003: 10,
        }
    )
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.5)})
    return b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")


def parse_png(path):
    """A PNG reader of its own: depth and colour type from IHDR, filters undone row by row."""
    data = path.read_bytes()
    position, compressed = 8, b""
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        content = data[position + 8 : position + 8 + length]
        (crc,) = struct.unpack(">I", data[position + 8 + length : position + 12 + length])
        assert crc == zlib.crc32(kind + content)
        if kind == b"IHDR":
            width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", content)
            assert rest == [0, 0, 0]
        compressed += content if kind == b"IDAT" else b""
        position += 12 + length
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    step = channels * depth // 8
    raw = np.frombuffer(zlib.decompress(compressed), np.uint8).reshape(height, 1 + width * step)
    rows = [np.zeros(width * step, int)]
    for kind, *line in raw.tolist():
        row, above = np.zeros(width * step, int), rows[-1]
        for i, value in enumerate(line):
            left = row[i - step] if i >= step else 0
            corner = above[i - step] if i >= step else 0
            estimate = left + above[i] - corner
            nearest = min((left, above[i], corner), key=lambda v, e=estimate: abs(e - v))
            guess = (0, left, above[i], (left + above[i]) // 2, nearest)[kind]
            row[i] = (value + guess) % 256
        rows.append(row)
    dtype = {8: np.uint8, 16: np.dtype(">u2")}[depth]
    return np.array(rows[1:], np.uint8).view(dtype).reshape(height, width, channels)


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_8_bit(tmp_path, suffix, channels):
    path = tmp_path / f"image{suffix}"
    picture = a_picture(channels)
    write_image(path, picture, quality=100)
    with Image.open(path) as file:
        found = np.array(file)
    expected = joined(picture)
    if suffix == ".webp" and channels < 3:  # it has no grey
        expected = expected[..., [0, 0, 0, 1][: channels + 2]]
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png(tmp_path, channels):
    picture = a_picture(channels, np.uint16)
    write_image(tmp_path / "image.png", picture)
    found = parse_png(tmp_path / "image.png")
    assert found.dtype.itemsize == 2
    np.testing.assert_array_equal(found, joined(picture))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_tiff(tmp_path, dtype, channels):
    path = tmp_path / "image.TIFF"
    picture = a_picture(channels, dtype)
    write_image(path, picture)
    with tifffile.TiffFile(path) as file:
        (page,) = file.pages
        found = page.asarray()
        assert page.photometric.name == ("RGB" if channels > 2 else "MINISBLACK")
        assert [e.name for e in page.extrasamples] == ["UNASSALPHA"] * (channels in (2, 4))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.reshape(joined(picture).shape), joined(picture))


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    small = Image.fromarray(noise(6, 8, 3))
    pixels = np.array(small.resize((160, 120), Image.Resampling.BICUBIC))
    sizes = []
    for quality in (95, 50):
        write_image(path, Picture(pixels), quality=quality)
        sizes.append(path.stat().st_size)
        with Image.open(path) as file:
            error = np.array(file).astype(float) - pixels
        assert np.sqrt((error**2).mean()) < (6 if quality == 95 else 20)
    assert sizes[1] < sizes[0]


def test_grey_jpeg_stays_grey(tmp_path):
    write_image(tmp_path / "image.jpg", a_picture(1))
    with Image.open(tmp_path / "image.jpg") as file:
        assert file.mode == "L"


@pytest.mark.parametrize("suffix", sorted(WRITABLE_SUFFIXES - {".dcm"}))
def test_metadata_for_independent_readers(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    write_image(path, a_picture(icc=SRGB, exif=some_exif(), dpi=(300, 150)))
    with Image.open(path) as file:
        assert file.info["icc_profile"] == SRGB
        exif = file.getexif()
        assert exif[0x010F] == "Maker"
        assert exif[0x013B] == "An artist with a long name"
        assert exif.get(0x0112, 1) == 1
        photo = exif.get_ifd(0x8769)
        assert photo[0x829A] in ((1, 125), 1 / 125)
        assert photo[0x9003] == "2020:01:01 00:00:00"
        assert photo[0x927C] == b"maker's note"
        assert exif.get_ifd(0x8825)[2] == (48.0, 51.0, 29.5)
        if suffix in (".tif", ".tiff"):
            np.testing.assert_array_equal(np.array(file), a_picture().pixels)
        else:
            assert (photo[0xA002], photo[0xA003]) == (30, 20)  # brought up to date
            assert (exif[0x011A], exif[0x011B], exif[0x0128]) == (300, 150, 2)
        if suffix in (".png", ".tif", ".tiff"):  # elsewhere EXIF alone says it
            assert file.info["dpi"] == pytest.approx((300, 150), abs=0.02)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_metadata_round_trip(tmp_path, suffix):
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    write_image(first, a_picture(icc=SRGB, exif=some_exif(), dpi=(300, 150)))
    picture = read_image(first)
    assert picture.icc == SRGB
    assert picture.dpi == (300, 150)
    write_image(second, picture)
    again = read_image(second)
    assert (again.icc, again.dpi) == (picture.icc, picture.dpi)
    for one in (picture, again):
        exif = Image.Exif()
        exif.load(one.exif)
        assert exif[0x010F] == "Maker"
        assert exif.get_ifd(0x8825)[1] == "N"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_nothing_is_invented(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    write_image(path, a_picture())
    with Image.open(path) as file:
        assert not file.info.keys() & {"dpi", "exif", "icc_profile"}
    picture = read_image(path)
    assert (picture.dpi, picture.exif, picture.icc) == (None, None, None)


def test_profile_of_another_colour_model_is_left_out(tmp_path):
    for suffix in (".png", ".jpg", ".tif"):
        write_image(tmp_path / f"grey{suffix}", a_picture(1, icc=SRGB))
        with Image.open(tmp_path / f"grey{suffix}") as file:
            assert "icc_profile" not in file.info


def test_views_and_memory_maps(tmp_path):
    whole = noise(20, 30, 4)
    whole.tofile(tmp_path / "raw")
    mapped = np.memmap(tmp_path / "raw", np.uint8, "r", shape=whole.shape)
    for image in (whole, mapped):
        write_image(tmp_path / "image.png", Picture(image[:, :, :3], image[:, :, 3]))
        np.testing.assert_array_equal(parse_png(tmp_path / "image.png"), whole)
    flat = np.memmap(tmp_path / "raw", np.uint8, "r", shape=(40, 20, 3))
    write_image(tmp_path / "image.tif", Picture(flat))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "image.tif"), flat)


def test_replaces_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(b"old")
    write_image(path, a_picture())
    assert read_image(path).width == 30
    assert [p.name for p in tmp_path.iterdir()] == ["image.png"]


def test_failure_leaves_the_old_file(tmp_path, monkeypatch):
    import pyvips

    def fail(*arguments, **options):
        raise pyvips.Error("disk is full")

    path = tmp_path / "image.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(pyvips.Image, "pngsave", fail, raising=False)
    with pytest.raises(InputError, match=r"image\.png can't be written: .*disk is full"):
        write_image(path, a_picture())
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["image.png"]


@pytest.mark.parametrize(
    "name", ["a b.png", "[Q=5].png", "ünïcödé ☃.png", "%d.tif", "x" * 250 + ".jpg"]
)
def test_odd_names(tmp_path, name):
    write_image(tmp_path / name, a_picture())
    assert read_image(tmp_path / name).width == 30


@pytest.mark.parametrize(
    ("name", "picture", "message"),
    [
        ("a.jpg", a_picture(3, np.uint16), r"JPEG can't hold 16-bit values; use \.png"),
        ("a.webp", a_picture(3, np.uint16), r"WebP can't hold 16-bit values; use \.png"),
        ("a.jpg", a_picture(4), r"JPEG can't hold transparency; use \.png"),
        ("a.png", a_picture(3, np.float32), r"PNG can't hold floating-point values; use \.tif"),
        ("a.webp", a_picture(width=16384, height=1), "WebP ends at 16383 pixels a side"),
        ("a.xyz", a_picture(), r"use one of \.avif, .*\.webp, got \.xyz"),
        ("a.gif", a_picture(), r"got \.gif"),
        ("a", a_picture(), "got no suffix"),
        ("missing/a.png", a_picture(), "can't be written: No such file or directory"),
        ("file/a.png", a_picture(), "can't be written: Not a directory"),
        ("folder.png", a_picture(), "is a folder"),
    ],
)
def test_refusals(tmp_path, name, picture, message):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message):
        write_image(tmp_path / name, picture)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("quality", [0, 101])
def test_wrong_quality(tmp_path, quality):
    with pytest.raises(UsageError, match="from 1 to 100"):
        write_image(tmp_path / "a.jpg", a_picture(), quality=quality)


def test_damaged_exif_does_not_stop_writing(tmp_path):
    for suffix in (".jpg", ".tif"):
        write_image(tmp_path / f"a{suffix}", replace(a_picture(), exif=b"Exif\0\0II*\0\xff\xff"))
        assert read_image(tmp_path / f"a{suffix}").width == 30

"""Reading: files made by Pillow and tifffile, and every kind of bad input."""

import io
import itertools
import os
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from hspan.errors import InputError
from hspan.imaging import IMAGE_SUFFIXES, probe_image, read_image

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.random(shape, dtype)
    return rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def photograph(width=160, height=120):
    """Smooth enough for lossy formats."""
    small = Image.fromarray(noise(12, 16, 3))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def check_info(path, picture, pages=1):
    info = probe_image(path)
    assert (info.width, info.height) == (picture.width, picture.height)
    assert (info.channels, info.dtype) == (picture.channels, picture.dtype)
    assert (info.pages, info.format) == (pages, picture.format)


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *itertools.product([".png", ".tif"], ["L", "RGB", "LA", "RGBA"]),
        *itertools.product([".webp", ".avif"], ["L", "RGB", "RGBA"]),
        *itertools.product([".jpg", ".bmp"], ["L", "RGB"]),
    ],
)
def test_8_bit_modes(tmp_path, suffix, mode):
    path = tmp_path / f"image{suffix}"
    image = photograph().convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(noise(120, 160)))
    options = {".webp": {"lossless": True}, ".avif": {"subsampling": "4:4:4"}}
    image.save(path, **options.get(suffix, {}))
    picture = read_image(path)
    check_info(path, picture)
    with Image.open(path) as file:  # Pillow's own decoding, as RGB where the format has no grey
        grey = picture.pixels.shape[2] == 1
        expected = np.array(file.convert("LA" if grey else "RGBA"))
    tolerance = 3 if suffix in (".jpg", ".avif") else 0  # decoders round colour differently
    colours = picture.pixels.shape[2]
    assert colours == (1 if mode in ("L", "LA") and suffix not in (".webp", ".avif") else 3)
    np.testing.assert_allclose(picture.pixels, expected[..., :colours], atol=tolerance)
    if "A" in mode:
        np.testing.assert_array_equal(picture.alpha, expected[..., -1])
    else:
        assert picture.alpha is None
    assert picture.pixels.dtype == np.uint8


def test_bmp_with_alpha(tmp_path):
    path = tmp_path / "image.bmp"
    pixels = noise(2, 3, 4)
    size_of_header, masks = 108, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)  # BITMAPV4HEADER
    header = struct.pack("<IiiHHIIiiII", size_of_header, 3, -2, 1, 32, 3, 24, 0, 0, 0, 0)
    header = (header + struct.pack("<4I", *masks)).ljust(size_of_header, b"\0")
    start = 14 + size_of_header
    path.write_bytes(struct.pack("<2sIII", b"BM", start + 24, 0, start) + header + pixels.tobytes())
    picture = read_image(path)
    check_info(path, picture)
    np.testing.assert_array_equal(picture.pixels, pixels[..., :3])
    np.testing.assert_array_equal(picture.alpha, pixels[..., 3])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_depths(tmp_path, dtype, channels, compression):
    path = tmp_path / "image.tif"
    image = noise(20, 30, channels, dtype=dtype)
    tifffile.imwrite(
        path,
        image[..., 0] if channels == 1 else image,
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression=compression,
    )
    picture = read_image(path)
    check_info(path, picture)
    assert picture.dtype == dtype
    colours = 1 if channels < 3 else 3
    np.testing.assert_array_equal(picture.pixels, image[..., :colours])
    if channels in (2, 4):
        np.testing.assert_array_equal(picture.alpha, image[..., -1])


def write_png(path, rows, bit_depth, colour_type, before=b""):
    """A PNG written by hand: `rows` are the packed bytes of each row; no filters."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    width = len(rows[0]) * 8 // bit_depth // channels
    header = struct.pack(">IIBBBBB", width, len(rows), bit_depth, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_16_bit_png(tmp_path, colour_type, channels):
    path = tmp_path / "image.png"
    image = noise(9, 14, channels, dtype=np.uint16)
    write_png(path, [row.astype(">u2").tobytes() for row in image], 16, colour_type)
    picture = read_image(path)
    check_info(path, picture)
    assert picture.dtype == np.uint16
    np.testing.assert_array_equal(picture.pixels, image[..., : 1 if channels < 3 else 3])
    if channels in (2, 4):
        np.testing.assert_array_equal(picture.alpha, image[..., -1])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_become_8(tmp_path, bits):
    path = tmp_path / "image.png"
    values = noise(5, 16) % 2**bits
    packed = values.reshape(5, -1, 8 // bits) << np.arange(8 - bits, -1, -bits)
    write_png(path, [bytes(row) for row in packed.sum(2).astype(np.uint8)], bits, 0)
    # The largest value is white: multiplied by 255, 85 and 17.
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], values * (255 // (2**bits - 1)))


@pytest.mark.parametrize("suffix", [".png", ".gif", ".tif", ".bmp"])
def test_palette_becomes_rgb(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    image = photograph().quantize(16)
    image.save(path)
    picture = read_image(path)
    check_info(path, picture)
    np.testing.assert_array_equal(picture.pixels, np.array(image.convert("RGB")))


def test_palette_with_transparency(tmp_path):
    path = tmp_path / "image.png"
    image = photograph().quantize(16)
    image.save(path, transparency=3)
    picture = read_image(path)
    check_info(path, picture)
    np.testing.assert_array_equal(picture.alpha == 0, np.array(image) == 3)


def test_cmyk_goes_through_a_profile(tmp_path):
    path = tmp_path / "image.jpg"
    ink = np.zeros((16, 48, 4), np.uint8)
    ink[:, 16:32, 0] = 255  # all cyan
    ink[:, 32:] = 255  # all inks
    Image.fromarray(ink, "CMYK").save(path, quality=100)
    picture = read_image(path)
    check_info(path, picture)
    paper, cyan, black = picture.pixels[8, [4, 24, 44]].astype(int)
    assert paper.min() > 245
    assert black.max() < 40
    assert cyan[0] < 60
    assert cyan[1:].min() > 120
    assert picture.icc[16:20] == b"RGB "


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 4), (np.uint16, 4), (np.uint8, 5)])
def test_cmyk_tiff(tmp_path, dtype, channels):
    path = tmp_path / "image.tif"
    image = np.zeros((8, 9, channels), dtype)
    image[:, :, 4:] = 77
    tifffile.imwrite(
        path,
        image,
        photometric="separated",
        planarconfig="contig",
        extrasamples=["unassalpha"] * (channels - 4),
    )
    picture = read_image(path)
    check_info(path, picture)
    assert (picture.pixels > 0.97 * np.iinfo(dtype).max).all()  # no ink: paper
    if channels == 5:
        assert (picture.alpha == 77).all()


def test_associated_alpha_is_divided_out(tmp_path):
    path = tmp_path / "image.tif"
    image = np.full((4, 5, 4), 50, np.uint8)
    image[..., 3] = 100
    tifffile.imwrite(path, image, photometric="rgb", extrasamples=["assocalpha"])
    picture = read_image(path)
    np.testing.assert_allclose(picture.pixels, 50 * 255 / 100, atol=1)
    assert (picture.alpha == 100).all()


# Pillow's own transposition is the reference.
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_orientation_is_applied_once(tmp_path, orientation, suffix):
    path = tmp_path / f"image{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    options = {"lossless": True} if suffix == ".webp" else {}
    photograph(40, 24).save(path, exif=exif, dpi=(100, 200), **options)
    picture = read_image(path)
    check_info(path, picture)
    with Image.open(path) as file:
        np.testing.assert_array_equal(picture.pixels, np.array(ImageOps.exif_transpose(file)))
    kept = Image.Exif()
    kept.load(picture.exif)
    assert kept[0x0112] == 1
    assert kept[0x010F] == "Maker"
    if suffix != ".webp":
        assert picture.dpi == ((100, 200) if orientation < 5 else (200, 100))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_profile_is_kept(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    photograph().save(path, icc_profile=SRGB)
    assert read_image(path).icc == SRGB


def test_profile_of_another_colour_model_is_left_out(tmp_path):
    path = tmp_path / "grey.jpg"
    photograph().convert("L").save(path, icc_profile=SRGB)
    assert read_image(path).icc is None


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_dpi(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    photograph().save(path, dpi=(300, 150))
    assert read_image(path).dpi == pytest.approx((300, 150), abs=0.02)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_no_dpi(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    photograph().save(path)
    assert read_image(path).dpi is None


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_dpi_within_exif(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    exif = Image.Exif()
    exif[0x011A] = exif[0x011B] = 118.11
    exif[0x0128] = 3  # per centimetre
    photograph().save(path, exif=exif)
    assert read_image(path).dpi == (300, 300)


def test_content_decides_not_the_name(tmp_path):
    path = tmp_path / "image.png"
    photograph().save(path, "JPEG")
    assert read_image(path).format == probe_image(path).format == "JPEG"


@pytest.mark.parametrize("name", ["a b.png", "[Q=5].png", "ünïcödé ☃.png", "no suffix", "%d.png"])
def test_odd_names(tmp_path, name):
    photograph().save(tmp_path / name, "PNG")
    assert read_image(tmp_path / name).width == 160
    assert read_image(os.fspath(tmp_path / name)).width == 160


def test_changed_file_is_read_anew(tmp_path):
    path = tmp_path / "image.png"
    for value in (10, 200):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)
        assert (read_image(path).pixels == value).all()


def test_1x1(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "dot.png")
    assert read_image(tmp_path / "dot.png").pixels.tolist() == [[[1, 2, 3]]]


def test_suffixes():
    assert {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".avif", ".bmp"} <= IMAGE_SUFFIXES


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


both = pytest.mark.parametrize("read", [read_image, probe_image])


@both
def test_missing(tmp_path, read):
    with pytest.raises(InputError, match=r"nothing\.png doesn't exist"):
        read(tmp_path / "nothing.png")


@both
def test_folder(tmp_path, read):
    with pytest.raises(InputError, match="is a folder"):
        read(tmp_path)


@both
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"just some text\n", "isn't an image that I know"),
        (b"BMW drives\n", "isn't an image that I know"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "isn't an image that I know"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is HEIC"),
        (b"\x89PNG\r\n\x1a\n", "damaged, incomplete or unusual PNG"),
        (b"\xff\xd8\xff", "damaged, incomplete or unusual JPEG"),
        (b"BM" + bytes(12) + b"\x28" + bytes(3), "damaged, incomplete or unusual BMP"),
    ],
)
def test_no_image(tmp_path, read, content, message):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("GIF", {}),
        ("AVIF", {}),
        ("BMP", {}),
    ],
)
@pytest.mark.parametrize("part", [0.95, 0.5, 0.1])
def test_cut_short(tmp_path, kind, options, part):
    path = tmp_path / "image"
    whole = encoded(photograph(), kind, **options)
    path.write_bytes(whole)
    read_image(path)
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(InputError, match="damaged, incomplete or unusual") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_flipped_byte(tmp_path):
    path = tmp_path / "image.png"
    content = bytearray(encoded(photograph(), "PNG"))
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        read_image(path)


@pytest.mark.parametrize(
    ("kind", "what"),
    [("GIF", "frames"), ("WEBP", "frames"), ("PNG", "frames"), ("TIFF", "pages")],
)
def test_several_frames(tmp_path, kind, what):
    path = tmp_path / "image"
    frames = [Image.fromarray(noise(20, 30, 3, seed=i)) for i in range(3)]
    frames[0].save(path, kind, save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match=f"has 3 {what}: save them as single images"):
        read_image(path)
    assert probe_image(path).pages == 3


@both
@pytest.mark.parametrize("dtype", [np.int16, np.uint32, np.float64])
def test_other_depths(tmp_path, read, dtype):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.ones((8, 8), dtype))
    with pytest.raises(InputError, match=r"values of type|damaged, incomplete or unusual TIFF"):
        read(path)


def test_many_channels(tmp_path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, noise(8, 8, 7), photometric="minisblack", planarconfig="contig")
    with pytest.raises(InputError, match="7 channels"):
        read_image(path)


def test_probe_reads_the_header_only(tmp_path):
    path = tmp_path / "image.png"
    whole = encoded(photograph(), "PNG")
    path.write_bytes(whole[:200])
    assert probe_image(path).width == 160

"""The table of docs/formats.md, cell by cell: files upscaled, and read by other readers."""

import re
from pathlib import Path

import numpy as np
import png
import pytest
import tifffile
from PIL import Image, ImageCms

from hspan.imaging import Picture, write_image
from hspan.inference import Job, Upscaler, plan_files, upscale_file

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    b'tiff:Orientation="6" tiff:ImageWidth="24" xmp:Rating="4"/></rdf:RDF></x:xmpmeta>'
)
DOCS = Path(__file__).parents[2] / "docs" / "formats.md"


def noise(*shape, dtype="uint8", seed=0):
    values = np.random.default_rng(seed).random(shape)
    return (values * (np.iinfo(dtype).max if "u" in dtype else 1)).astype(dtype)


def smooth(height, width, channels=3):
    y, x = np.mgrid[:height, :width]
    planes = [128 + 100 * np.sin(x / (5 + c)) * np.cos(y / 7) for c in range(channels)]
    return np.stack(planes, -1).astype(np.uint8)


def larger(array):
    return array.repeat(2, 0).repeat(2, 1)


def exif(orientation=1, width=24, height=18):
    block = Image.Exif()
    block[0x010F], block[0x0112] = "Maker", orientation
    block.get_ifd(0x8769).update({0x8827: 400, 0xA002: width, 0xA003: height})
    block.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.5)})
    return block


@pytest.fixture
def upscale(nearest, tmp_path):
    """Upscale a file whose result must keep its suffix; gives the result's path."""

    def run(source, precision="fp32", quality=100):
        upscaler = Upscaler(nearest(), precision=precision)
        jobs, failures = plan_files([source], 2, out=tmp_path / "out")
        assert not failures, failures[0].reason
        assert jobs[0].target.suffix == source.suffix
        upscale_file(upscaler, Job(source, jobs[0].target, overwrite=True), quality=quality)
        return jobs[0].target

    return run


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg", ".avif"])
def test_8_bits(upscale, tmp_path, suffix, mode):
    if "A" in mode and suffix == ".jpg":
        pytest.skip("JPEG has no transparency")
    if mode == "LA" and suffix in (".webp", ".avif"):
        pytest.skip("has no grey, and Pillow writes none")
    image = Image.fromarray(smooth(18, 24)).convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(smooth(18, 24, 1)[..., 0] | 1))
    path = tmp_path / f"a{suffix}"
    image.save(path, **{".webp": {"lossless": True}, ".jpg": {"quality": 95}}.get(suffix, {}))
    with Image.open(path) as before, Image.open(upscale(path)) as after:
        wanted, found = np.asarray(before.convert("RGBA")), np.asarray(after.convert("RGBA"))
        if suffix not in (".webp", ".avif"):
            assert after.mode == mode
    lossy = {".jpg": 12, ".avif": 8}.get(suffix, 0)
    np.testing.assert_allclose(found.astype(int), larger(wanted), atol=lossy)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits(upscale, tmp_path, suffix, channels):
    pixels = noise(18, 24, 3 if channels > 2 else 1, dtype="uint16") | 1
    alpha = noise(18, 24, dtype="uint16", seed=1) | 0x100 if channels in (2, 4) else None
    write_image(tmp_path / f"a{suffix}", Picture(pixels, alpha))
    found = upscale(tmp_path / f"a{suffix}")
    read = tifffile.imread(found) if suffix == ".tif" else read_png(found)
    read = read.reshape(36, 48, -1)
    np.testing.assert_array_equal(read[..., : pixels.shape[2]] >> 1, larger(pixels) >> 1)
    if alpha is not None:
        np.testing.assert_array_equal(read[..., -1], larger(alpha))


def read_png(path):
    width, height, rows, info = png.Reader(bytes=path.read_bytes()).asDirect()
    dtype = np.uint16 if info["bitdepth"] == 16 else np.uint8
    return np.array([np.array(row, dtype) for row in rows]).reshape(height, width, info["planes"])


@pytest.mark.parametrize("bits", [10, 12])
def test_avif_of_more_bits(upscale, tmp_path, bits):
    pixels = (smooth(18, 24).astype(np.uint16) * 257) >> (16 - bits) << (16 - bits)
    write_image(tmp_path / "a.avif", Picture(pixels, bits=bits), quality=100)
    found = upscale(tmp_path / "a.avif").read_bytes()
    # pixi: version and flags, channels, bits of each.
    at = found.index(b"pixi") + 8
    assert found[at : at + 4] == bytes([3, bits, bits, bits])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_float_tiff(upscale, tmp_path, channels):
    image = (
        noise(18, 24, channels, dtype="float32") * 3 - 1
        if channels < 4
        else noise(18, 24, 4, dtype="float32")
    )
    tifffile.imwrite(
        tmp_path / "a.tif",
        image[..., 0] if channels == 1 else image,
        photometric="rgb" if channels > 1 else "minisblack",
        extrasamples=["unassalpha"] if channels == 4 else None,
    )
    read = tifffile.imread(upscale(tmp_path / "a.tif")).reshape(36, 48, channels)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, larger(image), atol=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_become_8(upscale, tmp_path, bits):
    steps = 2**bits - 1
    levels = noise(18, 24) % (steps + 1)
    if bits == 1:
        with (tmp_path / "a.png").open("wb") as file:
            png.Writer(24, 18, greyscale=True, bitdepth=1).write(file, levels)
    else:
        image = Image.fromarray(levels)
        image.putpalette([v * 255 // steps for v in range(steps + 1) for _ in range(3)])
        image.save(tmp_path / "a.png", bits=bits)
    assert (tmp_path / "a.png").read_bytes()[24] == bits
    with Image.open(upscale(tmp_path / "a.png")) as after:
        found = np.asarray(after.convert("L"))
    np.testing.assert_array_equal(found, larger(levels * (255 // steps)))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_palette_becomes_rgb(upscale, tmp_path, suffix):
    image = Image.fromarray(smooth(18, 24)).quantize(8)
    image.save(tmp_path / f"a{suffix}")
    with Image.open(upscale(tmp_path / f"a{suffix}")) as after:
        assert after.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(after), larger(np.asarray(image.convert("RGB"))))


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_becomes_srgb(upscale, tmp_path, suffix):
    ink = np.zeros((18, 24, 4), np.uint8)
    ink[:, 12:, 0] = 255
    Image.fromarray(ink, "CMYK").save(tmp_path / f"a{suffix}")
    with Image.open(upscale(tmp_path / f"a{suffix}")) as after:
        assert after.mode == "RGB"
        paper, cyan = np.asarray(after)[18, [4, 44]].astype(int)
        assert after.info["icc_profile"][16:20] == b"RGB "
    assert paper.min() > 240
    assert cyan[0] < 80 < cyan[1]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_profile(upscale, tmp_path, suffix):
    Image.fromarray(smooth(18, 24)).save(tmp_path / f"a{suffix}", icc_profile=SRGB)
    with Image.open(upscale(tmp_path / f"a{suffix}")) as after:
        assert after.info["icc_profile"] == SRGB


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_exif(upscale, tmp_path, suffix):
    turned = suffix != ".avif"  # whose pixels stand upright whatever its EXIF says
    block = exif(6 if turned else 1)
    Image.fromarray(smooth(18, 24)).save(tmp_path / f"a{suffix}", exif=block.tobytes())
    with Image.open(upscale(tmp_path / f"a{suffix}")) as after:
        size, found = after.size, after.getexif()
        assert size == ((36, 48) if turned else (48, 36))
        assert found[0x010F] == "Maker"
        assert found.get(0x0112, 1) == 1
        assert found.get_ifd(0x8769)[0x8827] == 400
        assert (found.get_ifd(0x8769)[0xA002], found.get_ifd(0x8769)[0xA003]) == size
        assert found.get_ifd(0x8825)[2] == (48.0, 51.0, 29.5)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_xmp(upscale, tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", Picture(smooth(18, 24), xmp=XMP))
    with Image.open(upscale(tmp_path / f"a{suffix}")) as after:
        if suffix == ".png":
            packet = after.info["XML:com.adobe.xmp"].encode()
        else:
            packet = after.tag_v2[700] if suffix == ".tif" else after.info["xmp"]
    changed = XMP.replace(b'Orientation="6"', b'Orientation="1"').replace(b'"24"', b'"48"')
    assert packet == changed


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_print_size(upscale, tmp_path, suffix):
    Image.fromarray(smooth(18, 24)).save(tmp_path / f"a{suffix}", dpi=(300, 150))
    with Image.open(upscale(tmp_path / f"a{suffix}")) as after:
        assert after.info["dpi"] == pytest.approx((600, 300), abs=0.02)


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_print_size_within_exif(upscale, tmp_path, suffix):
    block = exif()
    block[0x011A], block[0x011B], block[0x0128] = 300.0, 150.0, 2
    Image.fromarray(smooth(18, 24)).save(tmp_path / f"a{suffix}", exif=block.tobytes())
    with Image.open(upscale(tmp_path / f"a{suffix}")) as after:
        found = after.getexif()
    assert (found[0x011A], found[0x011B]) == pytest.approx((600, 300), abs=0.1)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_tiled_and_big_tiff(upscale, tmp_path, bigtiff, tile):
    image = noise(40, 50, 3, dtype="uint16")
    tifffile.imwrite(
        tmp_path / "a.tif", image, photometric="rgb", tile=tile, bigtiff=bigtiff, software="Scanner"
    )
    with tifffile.TiffFile(upscale(tmp_path / "a.tif")) as file:
        page = file.pages[0]
        assert page.is_tiled == (tile is not None)
        assert page.software == "Scanner"
        assert file.series[0].shape == (80, 100, 3)  # and no word of the old one
        np.testing.assert_array_equal(page.asarray() >> 1, larger(image) >> 1)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_pages(upscale, tmp_path, dtype):
    pages = noise(3, 18, 24, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(upscale(tmp_path / "a.tif")) as file:
        assert len(file.pages) == 3
        for page, before in zip(file.pages, pages, strict=True):
            np.testing.assert_allclose(page.asarray(), larger(before), rtol=1e-4)


def test_pages_of_different_sizes_are_refused(upscale, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(noise(18, 24))
        file.write(noise(9, 12))
    with pytest.raises(Exception, match="different sizes or kinds"):
        upscale(tmp_path / "a.tif")


def test_geotiff_dicom_and_ome_go_all_the_way(upscale, tmp_path):
    """What is kept in them is tested in tests/imaging/test_layers.py."""
    bands = noise(2, 18, 24, dtype="uint16")
    tifffile.imwrite(tmp_path / "a.ome.tif", bands, ome=True, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(
        tifffile.imread(upscale(tmp_path / "a.ome.tif")), bands.repeat(2, 1).repeat(2, 2)
    )
    rasterio = pytest.importorskip("rasterio")
    transform = rasterio.Affine(10, 0, 500_000, 0, -10, 5_400_000)
    options = {"driver": "GTiff", "width": 24, "height": 18, "count": 2, "dtype": "uint16"}
    with rasterio.open(
        tmp_path / "b.tif", "w", crs="EPSG:32633", transform=transform, **options
    ) as file:
        file.write(bands)
    with rasterio.open(upscale(tmp_path / "b.tif")) as after:
        np.testing.assert_array_equal(after.read(), bands.repeat(2, 1).repeat(2, 2))
        assert after.transform.a == 5


def test_the_table_names_every_format():
    rows = re.findall(r"^\| ([A-Za-z-]+) \|", DOCS.read_text(), re.M)
    assert {"PNG", "JPEG", "WebP", "AVIF", "TIFF", "GeoTIFF", "OME-TIFF", "DICOM"} <= set(rows)

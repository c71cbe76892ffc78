"""EXIF bytes: Pillow writes and checks them; damage never escapes as another error."""

import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hspan.imaging._exif import PREFIX, from_tiff, into_tiff, resized, resolution, upright


def block():
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif[0x011A], exif[0x011B], exif[0x0128] = 240.0, 120.0, 2
    exif.get_ifd(0x8769).update({0x829A: (1, 125), 0x8827: 400, 0x927C: b"maker's note"})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 51.0, 29.5)})
    return PREFIX + exif.tobytes().removeprefix(PREFIX)


def big_endian_block():
    """IFD0 with orientation 6 and both resolutions, in Motorola order."""
    values = struct.pack(">4I", 240, 1, 120, 1)
    entries = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    entries += struct.pack(">HHII", 0x011A, 5, 1, 8 + 2 + 3 * 12 + 4)
    entries += struct.pack(">HHII", 0x011B, 5, 1, 8 + 2 + 3 * 12 + 4 + 8)
    return PREFIX + b"MM\0*" + struct.pack(">IH", 8, 3) + entries + bytes(4) + values


def parsed(blob):
    exif = Image.Exif()
    exif.load(blob)
    return exif


def test_upright_changes_the_orientation_only():
    before, after = block(), upright(block())
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
    assert parsed(after)[0x0112] == 1
    assert upright(before.removeprefix(PREFIX)) == after  # the prefix is added


def test_upright_unhooks_the_thumbnail():
    # One entry (orientation), then the offset of a second directory: 0 means that there is none.
    head = PREFIX + b"II*\0" + struct.pack("<I", 8)
    second = struct.pack("<HHHIHH", 1, 0x0100, 3, 1, 160, 0) + bytes(4)

    def blob(orientation, following):
        return head + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, following) + second

    assert upright(blob(6, 26)) == blob(1, 0)


def test_big_endian():
    assert parsed(upright(big_endian_block()))[0x0112] == 1
    assert resolution(big_endian_block()) == (240, 120)


def test_resolution():
    assert resolution(block()) == (240, 120)
    assert resolution(PREFIX + Image.Exif().tobytes()[6:]) is None


@pytest.mark.parametrize("big", [False, True])
def test_through_a_tiff(tmp_path, big):
    path = tmp_path / "image.tif"
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    tifffile.imwrite(path, pixels, photometric="rgb", byteorder="<", software=None, bigtiff=big)
    content = path.read_bytes() + bytes(path.stat().st_size % 2)
    assert from_tiff(content) is None or b"Maker" not in from_tiff(content)
    addition, width = into_tiff(content, block())
    assert width == (8 if big else 4)
    offset = len(content).to_bytes(width, "little")
    path.write_bytes(content[:width] + offset + content[2 * width :] + addition)
    np.testing.assert_array_equal(tifffile.imread(path), pixels)
    with Image.open(path) as file:
        np.testing.assert_array_equal(np.array(file), pixels)
        assert file.getexif().get_ifd(0x8825)[2] == (48.0, 51.0, 29.5)
    exif = parsed(from_tiff(path.read_bytes()))
    assert exif[0x010F] == "Maker"
    assert exif[0x0112] == 1
    assert exif.get_ifd(0x8769)[0x8827] == 400
    assert exif.get_ifd(0x8769)[0x829A] == (1, 125)
    assert exif.get_ifd(0x8769)[0x927C] == b"maker's note"


def test_further_pages_stay(tmp_path):
    path = tmp_path / "image.tif"
    pages = np.arange(120, dtype=np.uint8).reshape(2, 4, 5, 3)
    tifffile.imwrite(path, pages, photometric="rgb", byteorder="<", metadata=None)
    content = path.read_bytes() + bytes(path.stat().st_size % 2)
    addition, _ = into_tiff(content, block())
    path.write_bytes(content[:4] + struct.pack("<I", len(content)) + content[8:] + addition)
    with Image.open(path) as file:
        assert file.n_frames == 2
        file.seek(1)
        np.testing.assert_array_equal(np.array(file), pages[1])


def test_dimensions_are_replaced():
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0xA002: 15, 0xA003: 10, 0x8827: 400})
    blob = resized(PREFIX + exif.tobytes().removeprefix(PREFIX), 70_000, 20)
    sub = parsed(blob).get_ifd(0x8769)
    assert (sub[0xA002], sub[0xA003], sub[0x8827]) == (70_000, 20, 400)
    assert resized(block(), 1, 1) == block()  # has none


def test_resolution_is_replaced():
    for blob in (block(), big_endian_block()):
        assert resolution(resized(blob, 1, 1, (600.5, 300))) == (600.5, 300)


def test_nothing_to_add_to_a_tiff():
    host = block().removeprefix(PREFIX)
    assert into_tiff(host, big_endian_block()) is None  # nothing in it describes the picture
    assert into_tiff(big_endian_block()[6:], block()) is None  # not a file of ours


def test_big_endian_tiff(tmp_path):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.zeros((4, 5), np.uint8), byteorder=">", software="hspan's test")
    assert parsed(from_tiff(path.read_bytes()))[0x0131] == "hspan's test"


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 400), st.integers(0, 255), st.integers(0, 400))
def test_damage_is_survived(position, value, length):
    blob = bytearray(block())
    blob[position % len(blob)] = value
    damaged = bytes(blob[: max(len(blob) - length, 0)])
    host = block().removeprefix(PREFIX) + bytes(len(block()) % 2)
    for result in (upright(damaged), from_tiff(damaged[6:]), resized(damaged, 7, 5, (72, 72))):
        assert result is None or isinstance(result, bytes)
    addition = into_tiff(host, damaged)
    assert addition is None or addition[1] == 4
    found = resolution(damaged)
    assert found is None or min(found) > 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_noise_is_survived(noise):
    heads = (b"", b"II*\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0\x10" + bytes(7))
    for blob in (head + noise for head in heads):
        upright(blob)
        resolution(blob)
        from_tiff(blob)
        resized(blob, 3, 4, (600, 300))
        into_tiff(b"II*\0\x08\0\0\0" + noise, blob)

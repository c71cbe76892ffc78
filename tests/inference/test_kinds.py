import numpy as np
import pytest
import torch
from PIL import Image

from hspan.errors import InputError
from hspan.imaging import Picture
from hspan.inference import Planes
from hspan.inference._kinds import open_image

RNG = np.random.default_rng(0)


def grow(planes):
    def twice(a):
        return None if a is None else a.repeat(2, 0).repeat(2, 1)

    return Planes(twice(planes.pixels), twice(planes.alpha))


def round_trip(image):
    opened, close = open_image(image)
    return close([grow(planes) for planes in opened])


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 2), (4, 5, 3), (4, 5, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "float16", "float32", "float64"])
def test_arrays(shape, dtype):
    array = (RNG.random(shape) * 200).astype(dtype)
    result = round_trip(array)
    assert result.dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(result, array.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5), (1, 1, 4, 5), (2, 4, 4, 5)])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32", "float64"])
def test_tensors(shape, dtype):
    tensor = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 200).to(
        getattr(torch, dtype)
    )
    result = round_trip(tensor)
    assert result.dtype == tensor.dtype
    assert result.is_contiguous()
    assert torch.equal(result, tensor.repeat_interleave(2, -1).repeat_interleave(2, -2))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "F"])
def test_pillow_modes_that_are_kept(mode):
    bands = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 1, "F": 1}[mode]
    dtype = {"I;16": "uint16", "F": "float32"}.get(mode, "uint8")
    shape = (4, 5, bands) if bands > 1 else (4, 5)
    image = Image.fromarray((RNG.random(shape) * 200).astype(dtype))
    assert image.mode == mode
    image.info.update(icc_profile=b"profile", dpi=(72, 72), other=1)
    result = round_trip(image)
    assert (result.mode, result.size) == (mode, (10, 8))
    assert np.array_equal(np.asarray(result)[::2, ::2], np.asarray(image))
    assert result.info == {"icc_profile": b"profile", "dpi": (144, 144)}  # a print keeps its size


@pytest.mark.parametrize(
    ("mode", "becomes"),
    [("1", "L"), ("P", "RGB"), ("CMYK", "RGB"), ("YCbCr", "RGB"), ("I", "I;16")],
)
def test_pillow_modes_that_are_converted(mode, becomes):
    result = round_trip(Image.new(mode, (3, 2)))
    assert (result.mode, result.size) == (becomes, (6, 4))


def test_palette_with_transparency_becomes_rgba():
    image = Image.new("P", (3, 2))
    image.info["transparency"] = 0
    assert round_trip(image).mode == "RGBA"


def test_picture_keeps_what_belongs_to_it():
    pixels = np.zeros((2, 3, 3), np.uint8)
    picture = Picture(pixels, pixels[:, :, 0], icc=b"icc", dpi=(300.0, 300.0), format="TIFF")
    result = round_trip(picture)
    assert isinstance(result, Picture)
    assert result.pixels.shape == (4, 6, 3)
    assert result.alpha.shape == (4, 6)
    assert (result.icc, result.dpi, result.format) == (b"icc", (600.0, 600.0), "TIFF")


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 5, 5), np.uint8),
        np.zeros((2, 4, 5, 3), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((4, 5, 3), np.int64),
        np.zeros((4, 5), bool),
        torch.zeros(4, 5),
        torch.zeros(5, 4, 5),
        torch.zeros(0, 3, 4, 5),
        torch.zeros(3, 0, 5),
        torch.zeros(3, 4, 5, dtype=torch.int64),
        [[1, 2], [3, 4]],
        None,
    ],
    ids=repr,
)
def test_what_is_no_image(image):
    with pytest.raises(InputError, match="image"):
        open_image(image)

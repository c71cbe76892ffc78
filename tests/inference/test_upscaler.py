import inspect

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hspan.errors import InputError, UsageError, WeightsError
from hspan.imaging import Picture, read_image, write_image
from hspan.inference import Planes, Upscaler, upscaler
from hspan.models import create_model
from hspan.weights import save_model


def noise(*shape, dtype="uint8"):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def small_network(scale=2):
    torch.manual_seed(0)
    return create_model("hspan-light", scale=scale, channels=8, num_blocks=1, attention_after=(1,))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_model(small_network(3), path, name="hspan-light")
    return path


def test_call_as_documented():
    names = list(inspect.signature(Upscaler.__init__).parameters)[1:]
    expected = [
        "model",
        "scale",
        "device",
        "precision",
        "tile",
        "overlap",
        "ensemble",
        "max_memory",
        "max_seconds",
    ]
    assert names == expected


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 3), (6, 5, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_arrays(nearest, shape, dtype):
    image = noise(*shape, dtype=dtype) | 1  # nowhere invisible: such pixels lose their colour
    result = Upscaler(nearest(3), 3, precision="fp32")(image)
    assert np.array_equal(result[::3, ::3], image)
    assert result.dtype == image.dtype


def test_tensors_pillow_images_and_pictures(nearest):
    upscale = Upscaler(nearest(), precision="fp32")
    tensor = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(upscale(tensor)[..., ::2, ::2], tensor, atol=1e-6, rtol=0)
    image = Image.fromarray(noise(4, 5, 4))
    result = upscale(image)
    assert (result.mode, result.size) == ("RGBA", (10, 8))
    picture = Picture(noise(4, 5, 3), icc=b"profile")
    assert upscale(picture).icc == b"profile"


def test_path_becomes_a_picture(nearest, tmp_path):
    picture = Picture(noise(4, 5, 3), dpi=(300.0, 300.0))
    write_image(tmp_path / "a.png", picture)
    result = Upscaler(nearest(), precision="fp32")(tmp_path / "a.png")
    assert isinstance(result, Picture)
    assert np.array_equal(result.pixels[::2, ::2], picture.pixels)
    assert result.dpi == (600.0, 600.0)  # a print keeps its size


@pytest.mark.parametrize("tile", ["auto", 0, 1, 5, 16])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (33, 2)])
def test_small_sizes_and_tiles(nearest, size, tile):
    image = noise(*size, 3)
    assert np.array_equal(Upscaler(nearest(), tile=tile)(image)[::2, ::2], image)


def test_real_network_of_one_pixel():
    assert Upscaler(small_network())(noise(1, 1)).shape == (2, 2)


def test_tiles_of_attention_leave_no_seam(shared_data):
    """Untrained attention sees other tiles differently; where tiles meet it must not show."""
    picture = read_image(shared_data / "golden/Set5_LR_matlab/X2/birdx2.png")
    image = picture.pixels[:96, :96]
    network = small_network()
    whole = Upscaler(network, precision="fp32", tile=0)(image).astype(int)
    tiled = Upscaler(network, precision="fp32", tile=32, overlap=16)(image).astype(int)
    steps = np.abs(np.diff(tiled - whole, axis=1)).mean((0, 2))  # [191] from column to column
    meeting = np.zeros(191, bool)
    meeting[[c for b in (64, 128) for c in range(b - 8, b + 8)]] = True
    assert np.abs(tiled - whole).mean() < 3
    assert steps[meeting].mean() < 1.5 * steps[~meeting].mean()


def test_modules_are_not_left_in_another_mode(local):
    network = local()
    network.train()
    network.conv.eval()
    Upscaler(network)(noise(4, 4, 3))
    assert (network.training, network.conv.training) == (True, False)


def test_scale_of_a_network(nearest):
    class Bare(nn.Module):
        def forward(self, x):
            return x.repeat_interleave(3, 2).repeat_interleave(3, 3)

    assert Upscaler(nearest(4)).scale == 4
    assert Upscaler(Bare()).scale == 3
    with pytest.raises(UsageError, match="Nearest upscales by 4, not by 2"):
        Upscaler(nearest(4), 2)
    with pytest.raises(UsageError, match="isn't a network for super-resolution"):
        Upscaler(nn.Flatten())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"scale": 5}, "scale must be 2, 3 or 4"),
        ({"tile": "small"}, "tile must be auto"),
        ({"tile": -1}, "from 0"),
        ({"overlap": -1}, "from 0"),
        ({"device": "abacus"}, "device 'abacus'"),
        ({"precision": "fp8"}, "unknown precision"),
    ],
)
def test_wrong_options(nearest, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        Upscaler(nearest(), **options)


def test_checkpoints(checkpoint):
    upscale = Upscaler(checkpoint)
    assert upscale.scale == 3
    assert upscale(noise(4, 4, 3)).shape == (12, 12, 3)
    with pytest.raises(UsageError, match="scale"):
        Upscaler(checkpoint, 2)
    with pytest.raises(InputError, match="no such"):
        Upscaler(checkpoint.with_name("missing.safetensors"))
    with pytest.raises(UsageError, match="did you mean hspan-light"):
        Upscaler("hspan-ligth")
    with pytest.raises((UsageError, WeightsError), match="hspan"):
        Upscaler("hspan", 4)


def test_names_of_shipped_weights_choose_by_scale(checkpoint, monkeypatch):
    from hspan.weights import _shipped

    folder = checkpoint.parent / "shipped"
    folder.mkdir()
    for scale in (2, 4):
        path = folder / f"{scale}x_hspan-light.safetensors"
        save_model(small_network(scale), path, name="hspan-light")
    monkeypatch.setattr(_shipped, "FOLDER", folder)
    assert Upscaler().scale == 2
    assert Upscaler(scale=4).scale == 4
    assert Upscaler("4x_hspan-light").scale == 4
    with pytest.raises(UsageError, match="no weights of hspan-light ×3 come with"):
        Upscaler("hspan-light", 3)


def test_precision_follows_the_depth(nearest, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)

    def precision_of(asked, dtype):
        planes = Planes((noise(4, 4, 3) / 255).astype(dtype))
        return Upscaler(nearest(), precision=asked).upscale(planes)[1].precision

    assert precision_of("auto", "uint8") == "bf16"
    assert precision_of("auto", "uint16") == "fp32"
    assert precision_of("auto", "float32") == "fp32"
    assert precision_of("bf16", "uint16") == "bf16"


def test_bf16_costs_8_bit_images_next_to_nothing():
    """The network's detail is rounded to 8 significant bits, the enlarged input is not."""
    network, image = small_network(), noise(40, 40, 3)
    exact = Upscaler(network, precision="fp32")(image).astype(float)
    narrow = Upscaler(network, precision="bf16")(image).astype(float)
    assert np.abs(exact - narrow).max() <= 3
    assert np.mean((exact - narrow) ** 2) < 0.2  # 8-bit rounding itself is 0.08


def test_overflow_is_repeated_and_said():
    class Overflow(nn.Module):
        scale = 2

        def forward(self, x):
            grown = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            return grown * (torch.inf if torch.is_autocast_enabled("cpu") else 1)

    image = noise(8, 8, 3)
    upscale = Upscaler(Overflow(), precision="bf16", tile=4, overlap=0)
    with pytest.warns(RuntimeWarning, match="4 of 4 tiles weren't finite in bf16"):
        result = upscale(image)
    assert np.array_equal(result[::2, ::2], image)
    assert upscale.upscale(Planes(image))[1].repeated_in_fp32 == 4


def test_report(nearest):
    planes = Planes(noise(10, 20, 3))
    report = Upscaler(nearest(), tile=10, overlap=4, precision="fp32").upscale(planes)[1]
    assert report.lr_size == (20, 10)
    assert report.sr_size == (40, 20)
    assert (report.tile, report.tiles, report.scale, report.model) == (10, 2, 2, "Nearest")
    assert report.seconds > 0


def test_memory_decides_on_tiles_and_on_the_file(local, monkeypatch, tmp_path):
    """A machine with 20 MB free cuts the image, and keeps the result of 3 MB in memory."""
    free = 20 * 10**6
    monkeypatch.setattr(upscaler, "available_memory", lambda device: free)
    monkeypatch.setattr(upscaler, "available_ram", lambda: free)
    upscale = Upscaler(local(2, 2), precision="fp32")
    assert upscale.plan(1000, 1000).why == "memory"
    assert upscale.plan(100, 100).why == "whole image"
    source = Planes(noise(400, 650, 3))
    result, report = upscale.upscale(source, folder=tmp_path)
    assert report.tiles > 1
    assert not isinstance(result.pixels, np.memmap)
    monkeypatch.setattr(upscaler, "available_ram", lambda: free // 2)
    result, _ = upscale.upscale(source, folder=tmp_path)
    assert isinstance(result.pixels, np.memmap)
    assert list(tmp_path.iterdir()) == []


class Greedy(nn.Module):
    """Needs more than there is for anything above 40 pixels a side."""

    scale = 2

    def forward(self, x):
        if max(x.shape[-2:]) > 40:
            raise torch.OutOfMemoryError("out of memory")
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_out_of_memory_means_smaller_tiles():
    image = noise(100, 90, 3)
    upscale = Upscaler(Greedy(), overlap=4, precision="fp32")
    result, report = upscale.upscale(Planes(image))
    assert np.array_equal(result.pixels[::2, ::2], image)
    assert 0 < report.tile < 40


def test_out_of_memory_with_a_named_tile_is_one_sentence():
    with pytest.raises(InputError, match="not enough memory for tiles of 90×100 LR pixels"):
        Upscaler(Greedy(), tile=0)(noise(100, 90, 3))


def test_other_errors_are_not_swallowed():
    class Broken(nn.Module):
        scale = 2

        def forward(self, x):
            raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        Upscaler(Broken(), tile=0)(noise(4, 4, 3))


def test_ensemble_is_the_mean_over_eight(local):
    network, image = local(2, 3).eval(), torch.rand(3, 6, 5)
    from hspan.inference import self_ensemble

    with torch.no_grad():
        expected = self_ensemble(network)(image[None])[0]
    torch.testing.assert_close(Upscaler(network, ensemble=True)(image), expected)

import numpy as np
import pytest
import torch

from hspan.errors import InputError
from hspan.inference import Grid, Planes
from hspan.inference._assembly import upscale_planes
from hspan.inference._runner import Runner

PLENTY = 1 << 30


def run(network, source, tile=0, overlap=8, in_memory=PLENTY, **options):
    runner = Runner(network.eval(), network.scale, torch.device("cpu"), "fp32", False)
    grid = Grid(*source.size, tile, overlap)
    return upscale_planes(runner, source, network.scale, grid, in_memory=in_memory, **options)


def noise(*shape, dtype="uint8", seed=0):
    values = np.random.default_rng(seed).random(shape)
    return (values * (np.iinfo(dtype).max if "u" in dtype else 1)).astype(dtype)


@pytest.mark.parametrize(("tile", "overlap"), [(16, 6), (10, 6), (5, 9), (1, 6), (37, 12)])
@pytest.mark.parametrize("scale", [2, 3])
def test_local_network_is_the_same_in_tiles(local, scale, tile, overlap):
    """The network looks 6 pixels far, the overlap is at least 6."""
    source = Planes(noise(37, 41, 3, dtype="float32"))
    whole = run(local(scale, 6), source).pixels
    tiled = run(local(scale, 6), source, tile, overlap).pixels
    np.testing.assert_allclose(tiled, whole, atol=2e-6)


def test_less_overlap_than_the_network_sees_shows(local):
    """The test above can fail."""
    source = Planes(noise(37, 41, 3, dtype="float32"))
    whole = run(local(2, 6), source).pixels
    assert np.abs(run(local(2, 6), source, 16, 2).pixels - whole).max() > 1e-3


def test_no_seam_on_a_gradient():
    """A network that makes every window differently bright must not leave an edge."""

    class Moody(torch.nn.Module):
        scale, calls = 2, 0

        def forward(self, x):
            self.calls += 1
            shift = 0.02 * (self.calls % 2)
            return x.repeat_interleave(2, 2).repeat_interleave(2, 3) + shift

    ramp = np.linspace(0.2, 0.8, 200, dtype=np.float32)
    source = Planes(np.broadcast_to(ramp[None, :, None], (10, 200, 3)))
    result = run(Moody(), source, 50, 16).pixels[5, :, 0]
    steps = np.diff(result[::2])
    # Without blending the step at a boundary is 0.02; a cosine over 8 pixels rises by at most
    # π/2 · 0.02 / 8 per pixel.
    assert np.abs(steps - steps.mean()).max() < 0.02 * np.pi / 2 / 8 + 1e-3


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3])
def test_depth_is_kept(nearest, dtype, channels):
    source = Planes(noise(9, 7, channels, dtype=dtype))
    result = run(nearest(), source, 4, 2).pixels
    assert result.dtype == source.pixels.dtype
    expected = source.pixels.repeat(2, 0).repeat(2, 1)
    np.testing.assert_allclose(result.astype(float), expected.astype(float), atol=1e-6)


def test_integers_are_rounded_half_up_and_clipped():
    class Shift(torch.nn.Module):
        scale = 1

        def forward(self, x):
            return x * 255 / 255 + self.by / 255

    network, source = Shift(), Planes(np.array([[[0], [100], [255]]], np.uint8))
    for by, expected in ((0.5, (1, 101, 255)), (0.49, (0, 100, 255)), (-3.0, (0, 97, 252))):
        network.by = by
        assert tuple(run(network, source).pixels[0, :, 0]) == expected


def test_floats_are_not_clipped(nearest):
    source = Planes(np.array([[[-0.5], [1.5]]], np.float32))
    assert run(nearest(), source).pixels[0, :, 0].tolist() == [-0.5, -0.5, 1.5, 1.5]


def test_opaque_alpha_changes_nothing(local):
    pixels = noise(20, 15, 3)
    opaque = np.full((20, 15), 255, np.uint8)
    with_alpha = run(local(2, 3), Planes(pixels, opaque), 8, 4)
    assert np.array_equal(with_alpha.pixels, run(local(2, 3), Planes(pixels), 8, 4).pixels)
    assert bool((with_alpha.alpha == 255).all())


def test_invisible_colours_do_not_bleed():
    """White paper beside black nothing: blurred edges keep the colour of the paper."""

    class Blur(torch.nn.Module):
        scale = 2

        def forward(self, x):
            grown = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            return torch.nn.functional.avg_pool2d(grown, 5, stride=1, padding=2)

    pixels = np.zeros((12, 24, 3), np.uint8)
    alpha = np.zeros((12, 24), np.uint8)
    pixels[:, :12], alpha[:, :12] = 200, 255
    result = run(Blur(), Planes(pixels, alpha), 8, 4)
    edge = (result.alpha > 0) & (result.alpha < 255)
    assert edge.any()
    assert bool((result.pixels[result.alpha > 0] == 200).all())
    assert bool((result.pixels[result.alpha == 0] == 0).all())
    grey = run(Blur(), Planes(alpha[:, :, None]), 8, 4).pixels[:, :, 0]
    assert np.array_equal(result.alpha, grey)


def test_result_of_any_size_goes_to_a_nameless_file(nearest, tmp_path):
    source = Planes(noise(30, 20, 3, dtype="uint16"), noise(30, 20, dtype="uint16", seed=1))
    expected = run(nearest(), source, 7, 2)
    result = run(nearest(), source, 7, 2, in_memory=100, folder=tmp_path)
    assert isinstance(result.pixels, np.memmap)
    assert isinstance(result.alpha, np.memmap)
    assert list(tmp_path.iterdir()) == []
    assert np.array_equal(result.pixels, expected.pixels)
    assert np.array_equal(result.alpha, expected.alpha)
    assert not isinstance(expected.pixels, np.memmap)


def test_no_room_is_one_sentence(nearest, tmp_path):
    with pytest.raises(InputError, match=r"no room for 0\.0 GB"):
        run(nearest(), Planes(noise(9, 9, 3)), in_memory=0, folder=tmp_path / "missing")


def test_huge_image_is_read_and_written_by_the_band(nearest, tmp_path):
    """20,000 rows: one tile at a time is read, and finished rows leave the memory."""
    source = Planes(np.broadcast_to(np.uint8(7), (20_000, 12, 3)))
    network = nearest()
    result = run(network, source, 500, 4, in_memory=1000, folder=tmp_path)
    assert result.pixels.shape == (40_000, 24, 3)
    assert bool((result.pixels == 7).all())
    assert len(network.seen) == 40
    assert max(shape[2] for shape in network.seen) <= 500 + 2 * (4 + 1)


def test_not_a_number_is_refused(nearest):
    pixels = noise(5, 5, 3, dtype="float32")
    pixels[2, 2, 1] = np.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        run(nearest(), Planes(pixels))


def test_progress_counts_tiles(nearest):
    calls = []
    run(nearest(), Planes(noise(20, 20, 3)), 10, 0, progress=lambda *c: calls.append(c))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]

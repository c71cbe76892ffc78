import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from hspan.errors import InputError, UsageError
from hspan.evaluation import Failure, ImageScore, evaluate
from hspan.imaging import degrade, imresize
from hspan.metrics import psnr, ssim
from hspan.models import create_model
from hspan.weights import save_model, weights_hash


def picture(seed, height=38, width=31):
    """Smooth enough that scores are like those of photographs."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def folder(tmp_path):
    for seed in range(3):
        save(tmp_path / "Photos" / f"p{seed}.png", picture(seed))
    return tmp_path / "Photos"


class Nearest(nn.Module):
    """Repeats pixels."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return F.interpolate(x, scale_factor=self.scale, mode="nearest")


@pytest.mark.parametrize(("scale", "kind"), [(2, "BI"), (3, "BI"), (4, "BI"), (3, "BD")])
def test_bicubic_follows_the_protocol(folder, scale, kind):
    result = evaluate("bicubic", [folder], scale=scale, kind=kind)
    (dataset,) = result.datasets
    assert (result.model, dataset.name, dataset.lr) == ("bicubic", "Photos", "made from HR")
    assert [image.name for image in dataset.images] == ["p0", "p1", "p2"]
    for seed, image in enumerate(dataset.images):
        hr = picture(seed)
        hr = hr[: 38 // scale * scale, : 31 // scale * scale]
        sr = imresize(degrade(hr, scale, kind), scale)
        assert image.psnr == psnr(sr, hr, scale)
        assert image.ssim == ssim(sr, hr, scale)
        assert image.seconds > 0
    assert dataset.psnr == pytest.approx(np.mean([image.psnr for image in dataset.images]))
    assert result.complete


def test_a_network_goes_through_the_upscaler(folder):
    result = evaluate(Nearest(2), [folder], scale=2, device="cpu", precision="fp32", tile=0)
    hr = picture(0)[:, :30]
    expected = np.repeat(np.repeat(degrade(hr, 2), 2, axis=0), 2, axis=1)
    assert result.datasets[0].images[0].psnr == psnr(expected, hr, 2)
    assert result.model == "Nearest"
    protocol = result.protocol
    assert (protocol.precision, protocol.tile) == ("fp32", "whole images")
    assert (protocol.device, protocol.ensemble) == ("cpu", "none")


def test_tiles_and_ensemble_are_in_the_protocol(folder):
    result = evaluate(
        Nearest(2), [folder], scale=2, device="cpu", precision="fp32", tile=8, ensemble=True
    )
    assert "3 in tiles of at most" in result.protocol.tile
    assert "overlap 16" in result.protocol.tile
    assert result.protocol.ensemble == "8 flips and rotations"


def test_a_checkpoint_is_named_by_the_registry(folder, tmp_path):
    torch.manual_seed(0)
    settings = {"channels": 8, "num_modules": 2, "num_blocks": 1, "attention_modules": (1,)}
    network = create_model("hspan-s", scale=3, **settings)
    path = tmp_path / "x.safetensors"
    save_model(network, path, name="hspan-s")
    result = evaluate(path, [folder], scale=3, device="cpu", precision="fp32")
    assert result.model == "hspan"  # one attention, but not where HSPAN-S has it
    assert result.protocol.weights == weights_hash(network)
    assert [row.method for row in result.references] == ["Bicubic", "HSPAN"]


def test_given_lr_images_are_used(tmp_path):
    hr, lr = picture(0, 36, 32), picture(1, 18, 16)
    save(tmp_path / "Set5" / "HR" / "a.png", hr)
    save(tmp_path / "Set5" / "LR_bicubic" / "X2" / "ax2.png", lr)
    (dataset,) = evaluate("bicubic", [tmp_path / "Set5"], scale=2).datasets
    assert dataset.lr == "from files"
    assert dataset.images[0].psnr == psnr(imresize(lr, 2), hr, 2)
    (dataset,) = evaluate("bicubic", [tmp_path / "Set5" / "HR"], scale=2).datasets
    assert (dataset.name, dataset.lr) == ("Set5", "made from HR")


def test_lr_of_another_size_fails_by_name(tmp_path):
    save(tmp_path / "HR" / "a.png", picture(0, 36, 32))
    save(tmp_path / "LR_bicubic" / "X2" / "ax2.png", picture(1, 12, 16))
    (dataset,) = evaluate("bicubic", [tmp_path], scale=2).datasets
    assert dataset.images == ()
    assert "16×12 pixels" in dataset.failures[0].reason
    assert "needs 16×18" in dataset.failures[0].reason


def test_grey_images(tmp_path):
    grey = picture(4)[:, :, 0]
    save(tmp_path / "grey.png", grey)
    hr = grey[:, :30]
    sr = imresize(degrade(hr, 2), 2)
    for rule in ("replicate", "raw"):
        result = evaluate("bicubic", [tmp_path], scale=2, grey=rule)
        assert result.datasets[0].images[0].psnr == pytest.approx(psnr(sr, hr, 2, grey=rule))
        evaluate(Nearest(2), [tmp_path], scale=2, grey=rule, device="cpu")
    # 219 levels instead of 255: the same image scores 20 log10(255 / 219) higher on Y.
    assert psnr(sr, hr, 2) - psnr(sr, hr, 2, grey="raw") == pytest.approx(1.322, abs=0.001)


def test_sixteen_bits_are_scored_as_eight(tmp_path):
    eight = picture(5)[:, :, 0]
    save(tmp_path / "a" / "x.png", eight)
    save(tmp_path / "b" / "x.png", eight.astype(np.uint16) * 257)
    first, second = evaluate("bicubic", [tmp_path / "a", tmp_path / "b"], scale=2).datasets
    assert first.psnr == second.psnr


def test_a_broken_image_is_named_and_the_rest_go_on(folder):
    (folder / "p1.png").write_bytes((folder / "p1.png").read_bytes()[:100])
    save(folder / "tiny.png", picture(0)[:1, :1])
    seen = []
    result = evaluate("bicubic", [folder], scale=2, on_image=lambda *args: seen.append(args))
    (dataset,) = result.datasets
    assert [failure.name for failure in dataset.failures] == ["p1", "tiny"]
    assert "p1.png" in dataset.failures[0].reason
    assert [image.name for image in dataset.images] == ["p0", "p2"]
    assert not result.complete
    assert [type(outcome) for _, outcome, _ in seen] == [ImageScore, Failure, ImageScore, Failure]
    assert {(name, total) for name, _, total in seen} == {("Photos", 4)}


def test_a_network_that_gives_up_on_an_image_is_reported(folder):
    class Choosy(Nearest):
        def forward(self, x):
            if x.shape[-1] == 15 and x.mean() > 0.5:
                raise RuntimeError("too bright for me")
            return super().forward(x)

    save(folder / "white.png", np.full((38, 31, 3), 255, np.uint8))
    result = evaluate(Choosy(2), [folder], scale=2, device="cpu", precision="fp32", tile=0)
    assert ("white", "too bright for me") in [
        (failure.name, failure.reason) for failure in result.datasets[0].failures
    ]


def test_upscaled_images_are_kept(folder, tmp_path):
    evaluate("bicubic", [folder], scale=2, save_images=tmp_path / "out")
    kept = sorted((tmp_path / "out").rglob("*.png"))
    assert [p.relative_to(tmp_path / "out").as_posix() for p in kept] == [
        f"Photos/p{seed}_x2.png" for seed in range(3)
    ]
    expected = imresize(degrade(picture(0)[:, :30], 2), 2)
    assert np.array_equal(np.asarray(Image.open(kept[0])), expected)


def test_impossible_calls(folder, tmp_path):
    with pytest.raises(UsageError, match="BD exists at scale 3 only"):
        evaluate("bicubic", [folder], scale=2, kind="BD")
    with pytest.raises(UsageError, match="scale must be 2, 3 or 4"):
        evaluate("bicubic", [folder], scale=5)
    with pytest.raises(UsageError, match="grey"):
        evaluate("bicubic", [folder], scale=2, grey="luma")
    with pytest.raises(UsageError, match="no self-ensemble"):
        evaluate("bicubic", [folder], scale=2, ensemble=True)
    with pytest.raises(UsageError, match="no folder"):
        evaluate("bicubic", [], scale=2)
    with pytest.raises(UsageError, match="unknown model"):
        evaluate("bicubik", [folder], scale=2)
    with pytest.raises(UsageError, match="by 2, not by 3"):
        evaluate(Nearest(2), [folder], scale=3)
    with pytest.raises(InputError, match="missing"):
        evaluate("bicubic", [folder, tmp_path / "missing"], scale=2)

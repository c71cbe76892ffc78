"""What the page does, without the page."""

import json

import numpy as np
import pytest

from hspan import InputError, UsageError
from hspan.cli import main
from hspan.imaging import Picture, imresize, read_image, write_image
from hspan.metrics import psnr
from hspan.web import Limits, Service, Workspace
from hspan.web import _words as words


@pytest.fixture(scope="module")
def service(weights):
    with Workspace() as workspace:
        yield Service(workspace, Limits(megapixels=0.02), models=[weights], device="cpu")


def test_models(service):
    assert next(iter(service.models)) == "hspan-light"
    assert service.models["small"] == [2]
    assert service.models["bicubic"] == [2, 3, 4]


@pytest.mark.parametrize("name", ["photo", "deep"])
def test_same_bytes_as_the_command(service, weights, tmp_path, request, name):
    source = request.getfixturevalue(name)
    done = service.upscale(source, "small", 2)
    assert main(["upscale", str(source), "-m", str(weights), "-d", "cpu"]) == 0
    assert done.target.name == f"{name}_x2.png"
    assert done.target.read_bytes() == (tmp_path / f"{name}_x2.png").read_bytes()
    assert json.loads(json.dumps(done.report)) == done.report


def test_report(service, photo):
    told = []
    done = service.upscale(photo, "small", 2, report=told.append)
    assert done.report["lr_size"] == [22, 18]
    assert done.report["sr_size"] == [44, 36]
    assert done.report["score"] is None
    assert told == sorted(told)
    assert told[-1] == 1
    assert "22×18 → 44×36** by small" in words.summary(done)


def test_score(service, photo, tmp_path, noise):
    """The ground truth may be larger by what a multiple of the scale cuts off."""
    truth = tmp_path / "truth.png"
    hr = noise(37, 45, 3, seed=1)
    write_image(truth, Picture(hr))
    done = service.upscale(photo, "small", 2, truth=truth)
    hr = hr[:36, :44]
    score = done.report["score"]
    assert score["psnr"] == pytest.approx(psnr(read_image(done.target).pixels, hr, 2))
    bicubic = imresize(read_image(photo).pixels, scale=2)
    assert score["bicubic_psnr"] == pytest.approx(psnr(bicubic, hr, 2))
    assert f"**PSNR {score['psnr']:.2f} dB**" in words.summary(done)
    assert service.close_up(done, (5, 5)).shape[1] > 2 * service.close_up(done, (5, 5)).shape[0]


def test_equal_images_have_no_decibels(service, photo, tmp_path):
    first = service.upscale(photo, "small", 2)
    done = service.upscale(photo, "small", 2, truth=first.target)
    assert done.report["score"]["psnr"] is None
    assert "without end: equal" in words.summary(done)


def test_another_truth(service, photo, deep):
    with pytest.raises(InputError, match=r"14×12 and can't be the ground truth: .* is 44×36"):
        service.upscale(photo, "small", 2, truth=deep)


def test_previews(service, deep):
    before, after = service.before_and_after(service.upscale(deep, "small", 2))
    assert before.shape == after.shape == (24, 28, 3)
    assert before.dtype == after.dtype == np.uint8


@pytest.mark.parametrize(
    ("model", "scale", "sentence"),
    [
        ("bigger", 2, "no model 'bigger' here: hspan-light, small, bicubic"),
        ("small", 3, "small enlarges by ×2, not by ×3"),
    ],
)
def test_no_such_model(service, photo, model, scale, sentence):
    with pytest.raises(UsageError, match=sentence):
        service.upscale(photo, model, scale)


def test_bad_uploads(service, tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("hello")
    with pytest.raises(InputError, match="isn't an image"):
        service.upscale(path, "small", 2)
    write_image(path, Picture(np.zeros((200, 200, 3), np.uint8)))
    with pytest.raises(InputError, match=r"this page takes 0\.02 million"):
        service.upscale(path, "small", 2)


def test_explain(service, photo):
    found, corner = service.explain(photo, "small", 2, (21, 17))
    assert (found.model, found.size, found.at, corner) == ("small", (22, 18), (21, 17), (0, 0))
    text = words.found(found, corner, whole=True)
    layer = found.layers[0]
    assert text.startswith("**Pixel (21, 17)**\n")
    assert f"built from **{layer.support} of 30**, each a patch of 4×4 pixels" in text
    drawn = service.draw(found, "photo.png")
    assert read_image(drawn).width == 1440


def test_explain_a_part(weights, photo):
    with Workspace() as workspace:
        small = Service(workspace, Limits(explained=16), models=[weights], device="cpu")
        found, corner = small.explain(photo, "small", 2, (21, 17))
    assert (found.size, corner, found.at) == ((16, 16), (6, 2), (15, 15))
    text = words.found(found, corner, whole=False)
    assert "**Pixel (21, 17)**, asked within the 16×16 pixels around it" in text


def test_nothing_to_explain(service, photo):
    with pytest.raises(UsageError, match="no attention that can be explained"):
        service.explain(photo, "bicubic", 2, (0, 0))
    with pytest.raises(UsageError, match=r"\(22, 0\) lies outside the image of 22×18"):
        service.explain(photo, "small", 2, (22, 0))


def test_few_networks_are_held(service, photo):
    for scale in (2, 3, 4):
        service.upscale(photo, "bicubic", scale)
    assert len(service._upscalers) == 2


def test_two_models_of_one_name(weights, tmp_path):
    twin = tmp_path / weights.name
    twin.write_bytes(weights.read_bytes())
    with Workspace() as workspace, pytest.raises(UsageError, match="two models small ×2"):
        Service(workspace, models=[weights, twin], device="cpu")

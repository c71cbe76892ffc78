"""Figures that evaluate weights at hand or look numbers up."""

import json

import pytest

from hspan.errors import InputError, UsageError
from hspan.evaluation import evaluate
from hspan.imaging import imresize
from hspan.reproduce import reproduce
from hspan.reproduce._benchmarks import find_dataset
from hspan.weights import load_model


def content(job):
    return json.loads((job.folder / "report.json").read_text())


def test_fig6(make_job, benchmarks):
    job = make_job("fig6", "topk=[0, 2, 512]", "repetitions=1")
    reproduce(job)
    points = {point["k"]: point for point in content(job)["results"]["points"]}
    assert list(points) == [0, 2, 512, None]
    # More than there are tokens: the same as exact.
    assert points[512]["psnr"] == points[None]["psnr"] != points[2]["psnr"]
    network = load_model("hspan-light", scale=2, device="cpu")
    whole = evaluate(network, [benchmarks / "Set5"], scale=2)
    assert points[None]["psnr"]["Set5"] == pytest.approx(whole.datasets[0].psnr, abs=1e-4)
    assert points[0]["cut"] == 1.0
    assert points[512]["cut"] == points[None]["cut"] == 0.0
    assert all(point["milliseconds"] > 0 for point in points.values())


def test_fig5(make_job, benchmarks):
    box = "box=[8, 4, 24, 16]"
    name, kind = "images.barbara.name=Set14/barbara", "images.barbara." + box
    other = "images.253027.name=Nowhere/a|Set5/bird", "images.253027." + box
    job = make_job("fig5", name, kind, *other)
    reproduce(job)
    found = content(job)
    assert [crop["method"] for crop in found["results"]["barbara"]] == ["Bicubic", "hspan-light"]
    alone = find_dataset(benchmarks, "Set14", 2)
    scores = {
        image.name: image.psnr
        for image in evaluate("bicubic", [alone.folder], scale=2).datasets[0].images
    }
    bicubic = found["results"]["barbara"][0]
    assert bicubic["image_psnr"] == pytest.approx(scores["barbara"])
    assert bicubic["psnr"] != bicubic["image_psnr"]
    assert set(found["data"]) == {"barbara", "253027"}
    assert (job.folder / "fig5_barbara.svg").exists()


def test_crops_that_can_not_be_made(make_job):
    with pytest.raises(UsageError, match="none of its images is there"):
        reproduce(make_job("fig12"))
    with pytest.raises(UsageError, match="--data DIR"):
        reproduce(make_job("fig12", data=None))
    with pytest.raises(UsageError, match="reaches beyond 64×48"):
        reproduce(make_job("fig5"))
    with pytest.raises(UsageError, match="wants a name and a box"):
        reproduce(make_job("fig5", "images.barbara.box=[1, 2]"))


def test_fig9(make_job):
    job = make_job("fig9")
    reproduce(job)
    found = content(job)["results"]
    manga = {point["network"]: point for point in found["Manga109_x4"]}
    assert manga["hspan"] == {
        "network": "hspan",
        "parameters": 33_616_545,
        "psnr": 31.74,
        "source": "published",
    }
    assert all(point["source"] == "published" for point in manga.values())
    ours = [point for point in found["Set5_x2"] if point["source"] == "measured"]
    assert [(point["network"], point["parameters"]) for point in ours] == [("hspan-light", 956_835)]
    without = make_job("fig9", data=None)
    reproduce(without)
    assert (
        "without measurements: Manga109 ×4, Set5 ×2" in (without.folder / "report.md").read_text()
    )


def test_fig10(make_job):
    words = ("models=['fsrcnn', 'vdsr']", "size=[8, 8]")
    job = make_job("fig10", *words, "seconds=60")
    reproduce(job)
    points = {point["network"]: point for point in content(job)["results"]["points"]}
    assert points["vdsr"]["psnr"] == 31.35
    assert points["vdsr"]["milliseconds"] > 0
    with pytest.raises(InputError, match="give more seconds"):
        reproduce(make_job("fig10", *words, "seconds=1e-9"))
    with pytest.raises(InputError, match="none has a PSNR on Set5 ×4"):
        reproduce(make_job("fig10", "models=['edsr-baseline']", "size=[8, 8]", data=None))


def test_images_by_path(make_job, benchmarks):
    from hspan.reproduce._images import find_image, lr_window

    job = make_job("fig4", data=None)
    path = benchmarks / "Set5" / "bird.png"
    assert find_image(job, str(path), 2).hr == path
    pixels = lr_window(job, str(path), 2, [3, 2, 8, 6])
    assert pixels.shape == (6, 8, 3)
    from hspan.data import read_rgb

    assert (imresize(read_rgb(path), 1 / 2)[2:8, 3:11] == pixels).all()
    with pytest.raises(InputError, match="reaches beyond"):
        lr_window(job, str(path), 2, [0, 0, 50, 6])
    with pytest.raises(InputError, match="no image Set5/cat"):
        find_image(make_job("fig4"), "Set5/cat", 2)

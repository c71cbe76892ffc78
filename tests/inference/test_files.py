import os

import numpy as np
import pytest

from hspan.errors import InputError, UsageError
from hspan.imaging import Picture, read_image, write_image
from hspan.inference import Job, Upscaler, plan_files, upscale_file


def save(path, *shape, dtype="uint8", **fields):
    values = np.random.default_rng(0).random(shape or (4, 5, 3))
    pixels = (values * np.iinfo(dtype).max).astype(dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Picture(pixels, **fields))
    return path


def names(jobs):
    return [(job.source.name, job.target.name) for job in jobs]


def test_outputs_stand_beside_their_inputs_by_default(tmp_path):
    a, b = save(tmp_path / "a.png"), save(tmp_path / "deep" / "b.JPG")
    jobs, failures = plan_files([a, b], 2)
    assert failures == []
    assert [j.target for j in jobs] == [tmp_path / "a_x2.png", tmp_path / "deep" / "b_x2.JPG"]
    jobs, _ = plan_files([a], 3, suffix="-big")
    assert names(jobs) == [("a.png", "a-big.png")]


def test_outputs_in_a_folder_or_a_named_file(tmp_path):
    a = save(tmp_path / "a.png")
    (tmp_path / "there").mkdir()
    for out, expected in (
        ("there", "there/a_x2.png"),
        ("new/folder", "new/folder/a_x2.png"),
        ("new/name.webp", "new/name.webp"),
    ):
        jobs, _ = plan_files([a], 2, out=tmp_path / out)
        assert [j.target for j in jobs] == [tmp_path / expected]
    assert not (tmp_path / "new").exists()


def test_folders_give_their_images_but_not_earlier_results(tmp_path):
    for name in ("b.png", "a.jpg", "a_x2.jpg", "c_x2.png", ".hidden.png", "sub/d.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    jobs, failures = plan_files([tmp_path], 2, overwrite=True)
    # c_x2 has no c: it is an image of its own. a_x2.jpg came from a.jpg.
    assert [n for n, _ in names(jobs)] == ["a.jpg", "b.png", "c_x2.png"]
    assert failures == []
    jobs, _ = plan_files([tmp_path], 2, out=tmp_path / "out")
    assert len(jobs) == 4


def test_the_same_file_twice_is_done_once(tmp_path):
    a = save(tmp_path / "a.png")
    jobs, failures = plan_files([a, tmp_path / "." / "a.png", tmp_path], 2)
    assert len(jobs) == 1
    assert failures == []


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("a.bmp", {}, "a_x2.png"),
        ("a.webp", {"alpha": np.zeros((4, 5), np.uint8)}, "a_x2.webp"),
        ("a.tiff", {}, "a_x2.tiff"),
    ],
)
def test_formats_that_cannot_hold_the_image_are_replaced(tmp_path, name, fields, expected):
    path = save(tmp_path / name.replace(".bmp", ".png"), **fields)
    path = path.rename(tmp_path / name)
    assert names(plan_files([path], 2)[0]) == [(name, expected)]


def test_a_named_file_must_hold_the_image(tmp_path):
    a = save(tmp_path / "a.png", dtype="uint16")
    jobs, failures = plan_files([a], 2, out=tmp_path / "b.jpg")
    assert jobs == []
    assert "can't hold" in failures[0].reason
    assert "write it as .png" in failures[0].reason


def test_two_inputs_for_one_output_are_refused(tmp_path):
    inputs = [save(tmp_path / "one/a.png"), save(tmp_path / "two/a.png")]
    with pytest.raises(UsageError, match=r"would both become .*a_x2\.png"):
        plan_files(inputs, 2, out=tmp_path / "out")
    assert len(plan_files(inputs, 2)[0]) == 2


def test_inputs_are_never_replaced(tmp_path):
    a = save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="is the input itself"):
        plan_files([a], 2, out=a, overwrite=True)
    link = tmp_path / "link.png"
    os.link(a, link)
    with pytest.raises(UsageError, match="is the input itself"):
        plan_files([a], 2, out=link, overwrite=True)
    jobs, failures = plan_files([a], 2, suffix="", overwrite=True)
    assert jobs == []
    assert "would replace" in failures[0].reason


def test_no_input_is_another_inputs_output(tmp_path):
    a, b = save(tmp_path / "a.png"), save(tmp_path / "a_x2.png")
    jobs, failures = plan_files([a, b], 2, overwrite=True)
    assert names(jobs) == [("a_x2.png", "a_x2_x2.png")]
    assert f"would replace {b}" in failures[0].reason


def test_existing_outputs_need_overwrite(tmp_path):
    a, b = save(tmp_path / "a.png"), save(tmp_path / "b.png")
    save(tmp_path / "a_x2.png")
    jobs, failures = plan_files([a, b], 2)
    assert names(jobs) == [("b.png", "b_x2.png")]
    assert "exists already; --overwrite" in failures[0].reason
    assert len(plan_files([a, b], 2, overwrite=True)[0]) == 2


def test_a_folder_in_the_outputs_place(tmp_path):
    a = save(tmp_path / "a.png")
    (tmp_path / "a_x2.png").mkdir()
    jobs, failures = plan_files([a], 2, overwrite=True)
    assert jobs == []
    assert "is a folder" in failures[0].reason


@pytest.mark.parametrize("suffix", ["/../b", "x/y", "/"])
def test_suffixes_that_are_paths_are_refused(tmp_path, suffix):
    with pytest.raises(UsageError, match="suffix"):
        plan_files([save(tmp_path / "a.png")], 2, suffix=suffix)


def test_named_files_for_several_inputs_are_refused(tmp_path):
    a, b = save(tmp_path / "a.png"), save(tmp_path / "b.png")
    with pytest.raises(UsageError, match="several inputs need a folder"):
        plan_files([a, b], 2, out=save(tmp_path / "c.png"))
    with pytest.raises(UsageError, match=r"must end in one of \.avif"):
        plan_files([a], 2, out=tmp_path / "a.docx")


def test_everything_of_a_file_is_kept(nearest, tmp_path):
    alpha = np.full((4, 5), 40_000, np.uint16)
    source = save(tmp_path / "a.tif", 4, 5, 3, dtype="uint16", alpha=alpha, dpi=(300.0, 300.0))
    job = Job(source, tmp_path / "new" / "a_x2.tif")
    report = upscale_file(Upscaler(nearest()), job)
    assert report.sr_size == (10, 8)
    result, original = read_image(job.target), read_image(source)
    assert np.abs(result.pixels[::2, ::2].astype(int) - original.pixels).max() <= 1
    assert bool((result.alpha == 40_000).all())
    assert (result.format, result.dpi) == ("TIFF", (600.0, 600.0))  # a print keeps its size
    assert os.listdir(tmp_path / "new") == ["a_x2.tif"]


def test_files_that_appear_meanwhile_are_not_replaced(nearest, tmp_path):
    job = Job(save(tmp_path / "a.png"), save(tmp_path / "b.png"))
    before = job.target.read_bytes()
    with pytest.raises(InputError, match="appeared meanwhile"):
        upscale_file(Upscaler(nearest()), job)
    assert job.target.read_bytes() == before
    upscale_file(Upscaler(nearest()), Job(job.source, job.target, overwrite=True))
    assert job.target.read_bytes() != before


def test_unwritable_folders_are_noticed_before_the_work(nearest, tmp_path):
    (tmp_path / "blocker").write_text("a file")
    network = nearest()
    upscaler = Upscaler(network, tile=0)
    job = Job(save(tmp_path / "a.png"), tmp_path / "blocker" / "sub" / "a.png")
    with pytest.raises(InputError, match="can't write into"):
        upscale_file(upscaler, job)
    assert network.seen == []

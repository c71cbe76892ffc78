"""The cache holds exactly what load_pair gives, is built once, and never half."""

import json
import os

import numpy as np
import pytest

from hspan.data import ImagePair, build_cache, default_cache_folder, load_pair
from hspan.errors import InputError, UsageError


def stored(cache, image):
    s, h, w = cache.scale, image.height, image.width
    hr = cache.open_hr()[image.hr_start :][: h * w * s * s * 3].reshape(h * s, w * s, 3)
    lr = cache.open_lr()[image.lr_start :][: h * w * 3].reshape(h, w, 3)
    return hr, lr


@pytest.mark.parametrize(("scale", "kind"), [(2, "BI"), (3, "BD"), (4, "BI")])
def test_pixels(tmp_path, write, scale, kind):
    for i in range(9):  # more than are in memory at a time on one processor
        write(tmp_path / f"in/{i}.png", 40 + 7 * i, 61 - 3 * i, seed=i)
    cache = build_cache(tmp_path / "in", scale, kind, cache_folder=tmp_path)
    assert [image.name for image in cache.images] == [str(i) for i in range(9)]
    for image in cache.images:
        pair = ImagePair(image.name, tmp_path / f"in/{image.name}.png")
        for array, expected in zip(stored(cache, image), load_pair(pair, scale, kind), strict=True):
            np.testing.assert_array_equal(array, expected)


def test_sizes(tmp_path, write):
    write(tmp_path / "in/a.png", 60, 41)
    write(tmp_path / "in/b.png", 30, 35, seed=1)

    def build(*sizes):
        return build_cache(tmp_path / "in", 3, sizes=sizes, cache_folder=tmp_path)

    both = build(1.0, 0.6)
    assert [image.name for image in both.images] == ["a", "a@0.6", "b", "b@0.6"]
    for image in both.images:
        name, _, size = image.name.partition("@")
        pair = ImagePair(name, tmp_path / f"in/{name}.png")
        for array, expected in zip(
            stored(both, image), load_pair(pair, 3, size=float(size or 1)), strict=True
        ):
            np.testing.assert_array_equal(array, expected)
    assert [image.name for image in build(0.6).images] == ["a@0.6", "b@0.6"]
    assert len({build(*sizes).folder for sizes in ((1.0,), (0.6,), (0.5,), (1.0, 0.6))}) == 4


def test_is_built_once_and_again_after_a_change(tmp_path, write):
    write(tmp_path / "in/a.png")
    calls = []

    def build(**options):
        options = {"scale": 2, "cache_folder": tmp_path / "cache"} | options
        return build_cache(tmp_path / "in", report=lambda *call: calls.append(call), **options)

    first = build()
    assert calls == [(1, 1)]
    assert build() == first
    assert calls == [(1, 1)]
    assert build(scale=4).folder != first.folder
    write(tmp_path / "in/a.png", seed=1)
    os.utime(tmp_path / "in/a.png", ns=(1, 1))  # even where a clock is too coarse to notice
    changed = build()
    assert changed.folder != first.folder
    assert changed.digest != first.digest


def test_digest_names_the_pixels(tmp_path, write):
    write(tmp_path / "one/a.png")
    write(tmp_path / "two/b.webp.png")
    digests = {build_cache(tmp_path / d, 2, cache_folder=tmp_path).digest for d in ("one", "two")}
    assert len(digests) == 1


def test_bad_files_are_skipped_and_named(tmp_path, write):
    write(tmp_path / "in/a.png")
    (tmp_path / "in/b.png").write_text("not an image")
    cache = build_cache(tmp_path / "in", 2, cache_folder=tmp_path)
    assert [image.name for image in cache.images] == ["a"]
    assert list(cache.skipped) == ["b.png"]
    assert "not a readable image" in cache.skipped["b.png"]


def test_nothing_usable(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/b.png").write_text("not an image")
    with pytest.raises(InputError, match=r"no usable image \(b\.png"):
        build_cache(tmp_path / "in", 2, cache_folder=tmp_path)


def test_interrupted_build_leaves_nothing(tmp_path, write):
    write(tmp_path / "in/a.png")

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(tmp_path / "in", 2, cache_folder=tmp_path / "cache", report=interrupt)
    assert list((tmp_path / "cache").iterdir()) == []
    assert build_cache(tmp_path / "in", 2, cache_folder=tmp_path / "cache").images


def test_another_process_may_be_faster(tmp_path, write):
    write(tmp_path / "in/a.png")
    cache_folder = tmp_path / "cache"
    build_cache(tmp_path / "in", 2, cache_folder=tmp_path / "other")
    (name,) = (path.name for path in (tmp_path / "other").iterdir())

    def overtake(done, total):
        (tmp_path / "other" / name).rename(cache_folder / name)

    cache = build_cache(tmp_path / "in", 2, cache_folder=cache_folder, report=overtake)
    assert cache.folder == cache_folder / name
    assert [path.name for path in cache_folder.iterdir()] == [name]


def test_unwritable_place(tmp_path, write):
    write(tmp_path / "in/a.png")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"choose another place with data\.cache=FOLDER"):
        build_cache(tmp_path / "in", 2, cache_folder=tmp_path / "file")


def test_impossible_degradation_is_no_fault_of_the_files(tmp_path, write):
    write(tmp_path / "in/a.png")
    with pytest.raises(UsageError, match="scale 3 only"):
        build_cache(tmp_path / "in", 2, "BD", cache_folder=tmp_path)


def test_index_is_plain_json(tmp_path, write):
    write(tmp_path / "in/a.png", 40, 30)
    cache = build_cache(tmp_path / "in", 2, cache_folder=tmp_path)
    index = json.loads((cache.folder / "index.json").read_text())
    assert index["images"] == [
        {"name": "a", "hr_start": 0, "lr_start": 0, "height": 15, "width": 20}
    ]


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "hspan"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / ".cache" / "hspan"

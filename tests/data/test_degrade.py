"""degrade_folder writes what load_pair would make, where find_pairs will look."""

import numpy as np
import pytest
from PIL import Image

from hspan.data import degrade_folder, find_pairs, load_pair, read_rgb
from hspan.errors import InputError, UsageError


@pytest.mark.parametrize("prefix", ["", "DIV2K_train_"])
@pytest.mark.parametrize(("scale", "kind"), [(2, "BI"), (3, "BD")])
def test_completes_a_folder_in_place(tmp_path, write, scale, kind, prefix):
    write(tmp_path / f"{prefix}HR/a.png", 41, 32)
    (made,) = find_pairs(tmp_path, scale, kind)
    target, failed = degrade_folder(tmp_path, tmp_path, scale, kind)
    assert not failed
    (given,) = find_pairs(tmp_path, scale, kind)
    assert given.lr == target / f"ax{scale}.png"
    for a, b in zip(
        load_pair(made, scale, kind), load_pair(given, scale, kind), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_depth_is_kept(tmp_path):
    values = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    target, _ = degrade_folder(tmp_path, tmp_path / "out", 2)
    with Image.open(target / "ax2.png") as image:
        assert image.mode == "I;16"
        assert np.asarray(image).max() > 60000
    assert read_rgb(target / "ax2.png").shape == (15, 20, 3)  # and training reads it as 8 bits


def test_failures_are_named_and_the_rest_done(tmp_path, write):
    write(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("not an image")
    write(tmp_path / "c.png")
    target, failed = degrade_folder(tmp_path, tmp_path / "out", 2)
    assert list(failed) == ["b"]
    assert sorted(path.name for path in target.iterdir()) == ["ax2.png", "cx2.png"]


def test_existing_images_are_not_replaced(tmp_path, write):
    write(tmp_path / "a.png")
    degrade_folder(tmp_path, tmp_path / "out", 2)
    with pytest.raises(UsageError, match="has files already"):
        degrade_folder(tmp_path, tmp_path / "out", 2)


def test_impossible_calls(tmp_path, write):
    write(tmp_path / "a.png")
    with pytest.raises(UsageError, match="scale 3 only"):
        degrade_folder(tmp_path, tmp_path / "out", 2, "BD")
    with pytest.raises(InputError, match="can't be written"):
        degrade_folder(tmp_path, tmp_path / "a.png", 2)

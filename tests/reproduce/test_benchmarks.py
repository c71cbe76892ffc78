import shutil

import pytest
from PIL import Image

from hspan.errors import InputError
from hspan.reproduce._benchmarks import crop_images, find_dataset, find_datasets, fingerprint


def test_names_and_aliases(benchmarks, tmp_path):
    shutil.copytree(benchmarks / "Set5", tmp_path / "bsd100")
    found = find_dataset(tmp_path, "B100", 2)
    assert (found.name, found.images) == ("B100", 2)
    assert found.sha256 == find_dataset(benchmarks, "set5", 2).sha256


def test_what_is_missing(benchmarks, tmp_path):
    with pytest.raises(InputError, match="no folder Urban100; found Set14, Set5"):
        find_dataset(benchmarks, "Urban100", 2)
    with pytest.raises(InputError, match="no such folder of benchmarks"):
        find_dataset(tmp_path / "absent", "Set5", 2)
    found, missing = find_datasets(benchmarks, ("Set5", "Manga109"), 2)
    assert ([each.name for each in found], missing) == (["Set5"], ["Manga109"])
    with pytest.raises(InputError, match="no folder Manga109"):
        find_datasets(benchmarks, ("Manga109",), 2)


def test_hashes_follow_the_images(benchmarks, tmp_path):
    folder = tmp_path / "Set5"
    shutil.copytree(benchmarks / "Set5", folder)
    before, quick = find_dataset(tmp_path, "Set5", 2), fingerprint(folder, 2)
    assert before.sha256 == find_dataset(benchmarks, "Set5", 2).sha256
    Image.new("RGB", (9, 9)).save(folder / "bird.png")
    assert find_dataset(tmp_path, "Set5", 2).sha256 != before.sha256
    assert fingerprint(folder, 2) != quick


def test_crops_are_of_the_middle(benchmarks, tmp_path):
    dataset = find_dataset(benchmarks, "Set5", 2)
    folder = crop_images(dataset, 25, 2, tmp_path)
    with Image.open(folder / "bird.png") as crop, Image.open(dataset.folder / "bird.png") as image:
        assert crop.size == (24, 24)
        assert crop.tobytes() == image.crop((7, 11, 31, 35)).tobytes()

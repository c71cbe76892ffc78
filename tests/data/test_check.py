"""check_folder decodes everything and names what can't be used."""

import pytest

from hspan.data import check_folder
from hspan.errors import InputError


def test_good_folder(tmp_path, write):
    write(tmp_path / "a.png", 96, 100)
    write(tmp_path / "b.png", 95, 200)
    calls = []
    report = check_folder(tmp_path, 2, report=lambda *call: calls.append(call))
    assert report.ok
    assert report.sizes == {"a": (96, 100), "b": (94, 200)}
    assert report.too_small == ["b"]
    assert calls == [(1, 2), (2, 2)]


def test_bad_files_are_named(tmp_path, write):
    write(tmp_path / "HR/a.png", 40, 30)
    write(tmp_path / "HR/b.png", 40, 30)
    write(tmp_path / "HR/c.png", 40, 30)
    write(tmp_path / "LR_bicubic/X2/ax2.png", 20, 15)
    write(tmp_path / "LR_bicubic/X2/bx2.png", 20, 16)
    report = check_folder(tmp_path, 2)
    assert not report.ok
    assert list(report.sizes) == ["a"]
    assert "bx2.png: is 20×16" in report.unusable["b"]
    assert report.problems == ["LR_bicubic/X2 has no NAMEx2 for c"]


def test_folder_without_images(tmp_path):
    with pytest.raises(InputError, match="no images"):
        check_folder(tmp_path)

import os
import sys

import pytest

from hspan.inference.sources import find_sources


@pytest.fixture
def tree(tmp_path):
    """In a folder of its own: images, and what is none."""
    root = tmp_path / "in"
    names = ("b.png", "a.jpg", "sub/c.png", "sub/deep/d.tif", ".git/e.png", "sub/._c.png", "x.txt")
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def found(*inputs, **options):
    sources, failures = find_sources(inputs, **options)
    return [(s.below.as_posix(), s.path.name) for s in sources], [f.reason for f in failures]


def test_folders_without_and_with_what_is_in_them(tree):
    assert found(tree) == ([(".", "a.jpg"), (".", "b.png")], [])
    everything = [(".", "a.jpg"), (".", "b.png"), ("sub", "c.png"), ("sub/deep", "d.tif")]
    assert found(tree, recursive=True) == (everything, [])
    assert found(tree / "sub", tree, recursive=True)[0][0] == (".", "c.png")


def test_patterns(tree):
    assert found(tree / "*.png") == ([(".", "b.png")], [])
    assert found(tree / "**" / "*.png") == ([(".", "b.png"), ("sub", "c.png")], [])
    assert found(tree / "s*" / "c.*") == ([("sub", "c.png")], [])
    names, (reason,) = found(tree / "*.gif")
    assert names == []
    assert "no images match this pattern" in reason


def test_a_file_named_like_a_pattern_is_that_file(tree):
    (tree / "b[1].png").touch()
    (tree / "b1.png").touch()
    assert found(tree / "b[1].png") == ([(".", "b[1].png")], [])


def test_results_within_the_input_are_not_input(tree):
    (tree / "out").mkdir()
    (tree / "out" / "a_x2.jpg").touch()
    assert (("out"), "a_x2.jpg") in found(tree, recursive=True)[0]
    assert len(found(tree, recursive=True, leave_out=tree / "out")[0]) == 4
    assert len(found(tree, recursive=True, leave_out=tree)[0]) == 5


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_links_that_lead_in_circles(tree):
    os.symlink(tree, tree / "sub" / "up")
    os.symlink("self", tree / "self")
    os.symlink("self.png", tree / "self.png")
    os.symlink(tree / "sub" / "deep", tree / "also deep")
    names, failures = found(tree, recursive=True)
    assert sorted(name for _, name in names) == ["a.jpg", "b.png", "c.png", "d.tif"]
    assert failures == []
    sources, failures = find_sources([tree / "self.png"])
    assert len(sources) == 1  # reading it fails, and says so


def test_empty_folders_are_named(tmp_path):
    assert "no images in this folder" in found(tmp_path)[1][0]

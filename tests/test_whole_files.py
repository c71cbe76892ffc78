import os

import pytest

from hspan._whole_files import new_file, write_bytes, write_text
from hspan.errors import InputError


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with new_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".part"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (ValueError("odd"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(28, "No space left on device"), InputError),
    ],
)
def test_a_failure_leaves_the_old_file_alone(tmp_path, error, seen):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with new_file(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(seen):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_stands_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"folder is a folder: name a file in it"):
        write_text(tmp_path / "folder", "x")
    with pytest.raises(InputError, match=r"absent/a can't be written: No such file"):
        write_bytes(tmp_path / "absent" / "a", b"x")
    with pytest.raises(InputError, match=r"file/b/a can't be written: Not a directory"):
        write_text(tmp_path / "file" / "b" / "a", "x", parents=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_folders_above_are_made_on_demand(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "ä\n", parents=True)
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == "ä\n".encode()


def test_a_suffix_for_writers_that_look_at_it(tmp_path):
    with new_file(tmp_path / "a.pt2", suffix=".pt2") as temporary:
        assert temporary.suffix == ".pt2"
    assert os.listdir(tmp_path) == ["a.pt2"]

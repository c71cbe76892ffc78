"""find_pairs on every layout, with names that sort awkwardly and files that don't belong."""

import pytest

from hspan.data import ImagePair, find_layout, find_pairs
from hspan.errors import InputError, UsageError


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # the layout is a matter of names alone
    return folder


def test_plain_folder_in_natural_order(tmp_path):
    make(tmp_path, "img10.png", "img2.AVIF", "a².webp", "notes.txt", ".hidden.png", "sub/b.png")
    pairs = find_pairs(tmp_path, 2)
    assert [pair.name for pair in pairs] == ["a²", "img2", "img10"]
    assert pairs[1] == ImagePair("img2", tmp_path / "img2.AVIF", None)


def test_same_stem_twice_keeps_both(tmp_path):
    make(tmp_path, "a.png", "a.jpg")
    assert [pair.name for pair in find_pairs(tmp_path, 2)] == ["a.jpg", "a.png"]


@pytest.mark.parametrize("prefix", ["", "DIV2K_train_", "Other_"])
def test_hr_folder_with_its_lr_folder(tmp_path, prefix):
    make(tmp_path, f"{prefix}HR/0001.png", f"{prefix}LR_bicubic/X2/0001x2.png")
    hr, lr = tmp_path / f"{prefix}HR/0001.png", tmp_path / f"{prefix}LR_bicubic/X2/0001x2.png"
    assert find_pairs(tmp_path, 2) == [ImagePair("0001", hr, lr)]
    assert find_pairs(tmp_path, 3) == [ImagePair("0001", hr, None)]
    assert find_pairs(tmp_path, 2, kind="BD") == [ImagePair("0001", hr, None)]


def test_bd_has_its_own_folder(tmp_path):
    make(tmp_path, "HR/a.png", "LR_bicubic/X3/ax3.png", "LR_BD/X3/ax3.png")
    assert find_pairs(tmp_path, 3, kind="BD")[0].lr == tmp_path / "LR_BD/X3/ax3.png"
    assert find_pairs(tmp_path, 3)[0].lr == tmp_path / "LR_bicubic/X3/ax3.png"


def test_training_part_is_chosen_among_div2k_folders(tmp_path):
    make(tmp_path, "DIV2K_train_HR/0001.png", "DIV2K_valid_HR/0801.png")
    assert [pair.name for pair in find_pairs(tmp_path, 2)] == ["0001"]


def test_pairs_in_one_folder(tmp_path):
    make(tmp_path, "img_1_HR.png", "img_1_LR.png")
    expected = ImagePair("img_1", tmp_path / "img_1_HR.png", tmp_path / "img_1_LR.png")
    assert find_pairs(tmp_path, 4) == [expected]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "found nothing; wanted"),
        (["notes.txt", "sub/a.png"], r"found sub/, notes\.txt"),
        (["HR/notes.txt"], "HR: no images"),
        (["A_HR/a.png", "B_HR/a.png"], "several HR folders"),
        (["HR/a.png", "HR/b.png", "LR_bicubic/X2/ax2.png"], "no NAMEx2 for b"),
        (["a_HR.png", "a_LR.png", "b_HR.png"], "missing b_LR"),
        (["a_HR.png", "a_LR.png", "c_LR.png"], "missing c_HR"),
        (["a_HR.png", "a_LR.png", "c.png"], r"neither NAME_HR nor NAME_LR: c\.png"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, files, message):
    make(tmp_path, *files)
    with pytest.raises(InputError, match=message):
        find_pairs(tmp_path, 2)


def test_many_missing_files_are_counted(tmp_path):
    make(tmp_path, "LR_bicubic/X2/nonex2.png", *(f"HR/{n}.png" for n in range(8)))
    with pytest.raises(InputError, match="0, 1, 2, 3, 4 and 3 more"):
        find_pairs(tmp_path, 2)


def test_folder_must_exist_and_kind_be_known(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        find_pairs(tmp_path / "absent", 2)
    with pytest.raises(InputError, match="not a folder"):
        find_pairs(make(tmp_path, "file.png") / "file.png", 2)
    with pytest.raises(UsageError, match="BI or BD"):
        find_pairs(tmp_path, 2, kind="bicubic")


def test_layout_is_described(tmp_path):
    make(tmp_path, "HR/a.png", "LR_bicubic/X2/ax2.png")
    assert find_layout(tmp_path, 2).description == "HR/ with LR_bicubic/X2/"

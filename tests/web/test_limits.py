from pathlib import Path

import pytest

from hspan import InputError, UsageError
from hspan.web import Limits
from hspan.web._limits import worded


def test_what_fits_is_described(photo):
    info = Limits().check(photo)
    assert (info.width, info.height) == (22, 18)


def test_too_many_pixels(photo):
    small = Limits(megapixels=0.0002)
    with pytest.raises(InputError, match=r"has 22×18 pixels, 0.0 million, .* takes 0.0002 million"):
        small.check(photo)
    assert small.check(photo, area=4).width == 22


def test_too_many_bytes(tmp_path):
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(3_000_000)
    with pytest.raises(InputError, match="is of 3 MB, and this page takes 2 MB"):
        Limits(megabytes=2).check(path)


def test_no_image(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("hello")
    with pytest.raises(InputError, match="isn't an image"):
        Limits().check(path)


@pytest.mark.parametrize("wrong", [{"megabytes": 0}, {"megapixels": 0}, {"queue": 0}])
def test_limits_that_nothing_keeps(wrong):
    with pytest.raises(UsageError, match="must be positive"):
        Limits(**wrong)


def test_sentences_name_files_as_their_owner_does():
    path, truth = Path("/srv/uploads/abc/photo.png"), Path("/srv/uploads/def/big.png")
    error = InputError(f"{path} and {truth} differ;\n  {path.parent}/photo_x2.png isn't there")
    assert worded(error, path, None, truth) == (
        "photo.png and big.png differ; photo_x2.png isn't there"
    )

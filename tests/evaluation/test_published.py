import pytest

from hspan.errors import UsageError
from hspan.evaluation import Score, published_rows
from hspan.evaluation._published import reference_rows


def test_all_of_tables_2_and_3():
    counts = {scale: len(published_rows(scale)) for scale in (2, 3, 4)}
    assert counts == {2: 21, 3: 19, 4: 21}
    assert len(published_rows()) == 61
    assert len(published_rows(kind="BD")) == len(published_rows(3, "BD")) == 14
    assert published_rows(2, "BD") == []
    assert {row.kind for row in published_rows(kind="BD")} == {"BD"}


# PAPER.md quotes these; first and last cells of rows at the tables' ends and in their middle.
@pytest.mark.parametrize(
    ("method", "scale", "kind", "dataset", "score"),
    [
        ("Bicubic", 2, "BI", "Set5", Score(33.66, 0.9299)),
        ("Bicubic", 3, "BD", "Urban100", Score(23.52, 0.6862)),
        ("HSPAN", 2, "BI", "Set5", Score(38.43, 0.9622)),
        ("HSPAN", 4, "BI", "Urban100", Score(27.36, 0.8220)),
        ("HSPAN+", 4, "BI", "Manga109", Score(32.11, 0.9257)),
        ("HSPAN+", 3, "BD", "Manga109", Score(35.21, 0.9530)),
    ],
)
def test_quoted_scores(method, scale, kind, dataset, score):
    (row,) = published_rows(scale, kind, method.lower())
    assert row.method == method
    assert row.score(dataset) == score


def test_blank_cells_and_unknown_sets_are_absent():
    (row,) = published_rows(4, method="OISR")
    assert row.score("Manga109") is None
    assert row.score("my photographs") is None
    assert list(row.scores) == ["Set5", "Set14", "B100", "Urban100"]


def test_other_names_of_the_test_sets():
    (row,) = published_rows(2, method="HSPAN")
    assert row.score("BSD100") == row.score("b100") == row.scores["B100"]


def test_damaged_cells_are_marked():
    (row,) = published_rows(2, method="HSPAN")
    assert "B100 SSIM" in row.note


def test_unknown_kind():
    with pytest.raises(UsageError, match="kind must be BI or BD"):
        published_rows(2, "JPEG")


@pytest.mark.parametrize(
    ("model", "ensemble", "methods"),
    [
        ("bicubic", False, ["Bicubic"]),
        ("hspan", False, ["Bicubic", "HSPAN"]),
        ("hspan", True, ["Bicubic", "HSPAN+"]),
        ("hspan-light", False, ["Bicubic", "HSPAN"]),
        ("swinir-light", True, ["Bicubic", "SwinIR"]),
        ("MyNetwork", False, ["Bicubic"]),
    ],
)
def test_rows_beside_a_model(model, ensemble, methods):
    rows = reference_rows(model, 2, "BI", ensemble=ensemble)
    assert [row.method for row in rows] == methods

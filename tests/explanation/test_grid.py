import pytest
import torch

from hspan.explanation import Rectangle
from hspan.explanation._grid import TokenGrid, grid_of


@pytest.mark.parametrize(
    ("features", "rows", "columns", "cell"),
    [
        ((11, 14), 11, 14, 1.0),
        ((22, 28), 22, 28, 0.5),
        ((6, 7), 6, 7, 2.0),
        ((12, 16), 12, 16, 1.0),  # padded
    ],
)
def test_features_on_their_image(features, rows, columns, cell):
    assert grid_of(features, (11, 14)) == TokenGrid(rows, columns, cell, (11, 14))


@pytest.mark.parametrize("features", [(10, 14), (11, 100), (5, 14)])
def test_features_that_fit_in_no_way(features):
    assert grid_of(features, (11, 14)) is None


def test_one_pixel():
    assert grid_of((1, 1), (1, 1)) == TokenGrid(1, 1, 1.0, (1, 1))


def test_patches_end_at_the_border():
    grid = TokenGrid(11, 14, 1.0, (11, 14)).grouped(4, whole=False)
    assert (grid.rows, grid.columns, len(grid)) == (3, 4, 12)
    assert grid.rectangle(0) == Rectangle(0, 0, 4, 4)
    assert grid.rectangle(11) == Rectangle(12, 8, 2, 3)
    assert grid.grouped(2, whole=True).rows == 1


def test_padding_has_no_size():
    place = TokenGrid(12, 16, 1.0, (11, 14)).rectangle(12 * 16 - 1)
    assert (place.width, place.height) == (0, 0)


def test_token_of_a_pixel_and_back():
    for cell in (0.5, 1.0, 3.0):
        grid = TokenGrid(int(12 / cell), int(15 / cell), cell, (12, 15))
        for x, y in ((0, 0), (14, 11), (7, 4)):
            token = grid.token_at(x, y)
            place = grid.rectangle(token)
            assert place.x <= x + 0.5 <= place.x + place.width
            assert place.y <= y + 0.5 <= place.y + place.height
            assert grid.centres(torch.tensor([token]))[0].tolist() == pytest.approx(place.centre)


def test_pixel_outside_of_a_part():
    part = TokenGrid(5, 7, 1.0, (11, 14), left=7, top=5)
    assert part.token_at(6, 5) is None
    assert part.token_at(7, 10) is None
    assert part.rectangle(part.token_at(8, 6)) == Rectangle(8, 6, 1, 1)

import pytest
import torch
from torch import nn

from hspan.models import create_model
from hspan.web._progress import Progress, watched


def test_blocks_of_several_tiles():
    told = []
    progress = Progress(told.append, blocks=2, tiles=2)
    progress.block()
    progress.block()
    progress.block()  # one that nobody expected
    progress.tile(1, 2)
    progress.block()
    progress.tile(2, 2)
    assert told == [0.25, 0.5, 0.75, 1.0]


def test_it_never_goes_back():
    told = []
    progress = Progress(told.append, blocks=1)
    progress.block()
    progress.tile(1, 4)  # more tiles than were expected
    assert told == [1.0]


def test_a_network_is_watched_and_left_alone():
    model = create_model("hspan-light", channels=4, num_blocks=3)
    told = []
    with watched(model, told.append) as progress:
        model(torch.rand(1, 3, 8, 8))
        progress.tile(1, 1)
    assert told == [0.25, 0.5, 0.75, 1.0]
    with torch.no_grad():
        model(torch.rand(1, 3, 8, 8))
    assert len(told) == 4


def test_nobody_listens():
    with watched(nn.Conv2d(3, 3, 1), None) as progress:
        assert progress is None


def test_a_network_without_rows():
    told = []
    with watched(nn.Conv2d(3, 3, 1), told.append) as progress:
        progress.tile(1, 2)
    assert told == pytest.approx([0.5])

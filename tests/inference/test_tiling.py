import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hspan.errors import UsageError
from hspan.inference import Grid
from hspan.inference.tiling import Axis

axes = st.builds(
    Axis, length=st.integers(1, 300), tile=st.integers(0, 120), overlap=st.integers(0, 40)
)


@given(axes, st.sampled_from([1, 2, 3, 4]))
def test_weights_of_all_tiles_sum_to_one(axis, scale):
    total = torch.zeros(axis.length * scale)
    for i, span in enumerate(axis.spans):
        weights = axis.weights(i, scale)
        assert weights.shape == ((span.last - span.first) * scale,)
        assert weights.min() >= 0
        total[span.first * scale : span.last * scale] += weights
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-6, rtol=0)


@given(axes)
def test_every_contribution_has_its_context(axis):
    for span in axis.spans:
        assert 0 <= span.start <= span.first < span.last <= span.stop <= axis.length
        assert span.start == max(0, span.first - axis.overlap)
        assert span.stop == min(axis.length, span.last + axis.overlap)


@given(axes)
def test_no_tile_is_a_sliver(axis):
    shares = [b - a for a, b in zip(axis.boundaries, axis.boundaries[1:], strict=False)]
    assert sum(shares) == axis.length
    assert max(shares) - min(shares) <= 1
    assert not axis.tile or max(shares) <= axis.tile


def test_ramp_is_a_raised_cosine_centred_on_the_boundary():
    axis = Axis(64, 32, 16)
    assert axis.blend == 8
    weights = axis.weights(0, 1)
    assert len(weights) == 32 + 4
    assert bool((weights[:28] == 1).all())
    expected = 0.5 + 0.5 * torch.cos(torch.pi * (torch.arange(8) + 0.5) / 8)
    torch.testing.assert_close(weights[28:], expected, atol=1e-6, rtol=0)


def test_windows_of_a_grid():
    grid = Grid(100, 70, 50, 8)
    # Blend 4: each inner side adds 2 + 8 pixels. 100 = 50 + 50, 70 = 35 + 35.
    assert len(grid) == 4
    assert grid.windows == {(60, 45): 4}
    assert grid.largest == (60, 45)
    assert len(Grid(100, 70, 0, 8)) == len(Grid(100, 70, 100, 8)) == 1
    assert Grid(1, 1, 16, 16).windows == {(1, 1): 1}


@pytest.mark.parametrize(("tile", "overlap"), [(-1, 0), (16, -1)])
def test_negative_sizes_are_refused(tile, overlap):
    with pytest.raises(UsageError, match="from 0"):
        Grid(8, 8, tile, overlap)

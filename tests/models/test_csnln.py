"""CSNLN: one cell for all runs."""

import pytest
import torch

from hspan import UsageError, create_model
from hspan.models import CSNLNConfig


def count(**options) -> int:
    model = create_model("csnln", channels=8, **options)
    return sum(p.numel() for key, p in model.named_parameters() if not key.startswith("tail"))


def test_runs_share_their_weights():
    assert count(depth=1) == count(depth=5)
    model = create_model("csnln", channels=8, depth=5)
    assert model.tail.in_channels == 40


@torch.no_grad()
@pytest.mark.parametrize(("scale", "factors"), [(2, [2]), (3, [3]), (4, [2, 2])])
def test_the_cell_enlarges_in_steps(scale, factors):
    model = create_model("csnln", scale=scale, channels=8, depth=1)
    assert [stage.sources.cross_scale.factor for stage in model.mining.stages] == factors
    features, estimate = model.mining(torch.rand(1, 8, 6, 6))
    assert features.shape == (1, 8, 6, 6)
    assert estimate.shape == (1, 8, 6 * scale, 6 * scale)


@pytest.mark.parametrize("options", [{"scale": 1}, {"channels": 0}, {"depth": 0}])
def test_impossible_settings(options):
    with pytest.raises(UsageError):
        CSNLNConfig(**options)

"""SAN: its shared skip connection, and images of a few pixels."""

import pytest
import torch

from hspan import UsageError, create_model
from hspan.models import SANConfig


def network():
    torch.manual_seed(0)
    return create_model("san", channels=16, num_groups=2, num_blocks=1).eval()


@torch.no_grad()
def test_the_first_features_reach_every_group():
    model, x = network(), torch.rand(1, 3, 6, 6)
    before = model(x)
    model.shared_scale.fill_(0.5)
    assert not torch.allclose(model(x), before)


@torch.no_grad()
def test_quarters_see_only_themselves():
    """A change in one quarter leaves the others' non-local features alone."""
    model, x = network(), torch.rand(1, 16, 9, 8)
    before = model._by_region(x)
    x[..., 4:, 4:] += 1
    after = model._by_region(x)
    assert torch.equal(after[..., :4, :], before[..., :4, :])
    assert torch.equal(after[..., :4], before[..., :4])
    assert not torch.equal(after[..., 4:, 4:], before[..., 4:, 4:])


@torch.no_grad()
def test_quarters_without_a_pooled_position_are_made_larger():
    x = torch.rand(1, 3, 3, 1)
    padded = torch.nn.functional.pad(x, (0, 3, 0, 1), mode="replicate")
    assert torch.equal(network()(x), network()(padded)[..., :6, :2])


@pytest.mark.parametrize(
    "options",
    [{"scale": 8}, {"channels": 0}, {"num_groups": 0}, {"num_blocks": 0}, {"inner_reduction": 65}],
)
def test_impossible_settings(options):
    with pytest.raises(UsageError):
        SANConfig(**options)

"""ENLCN: its random directions belong to the checkpoint."""

import pytest
import torch

from hspan import UsageError, create_model
from hspan.models import ENLCNConfig


def directions(**options):
    torch.manual_seed(0)
    model = create_model("enlcn", channels=8, num_blocks=2, interval=1, projections=6, **options)
    return torch.stack([model.body[i].projection_matrix for i in (0, 2, 4)])


def test_directions_come_from_the_seed():
    torch.manual_seed(7)
    assert torch.equal(directions(), directions(seed=0))
    assert not torch.equal(directions(), directions(seed=1))
    drawn = directions()
    assert not torch.equal(drawn[0], drawn[1])


@torch.no_grad()
def test_loaded_directions_are_the_ones_that_count():
    a, b = (create_model("enlcn", channels=8, num_blocks=1, seed=s).eval() for s in (0, 1))
    x = torch.rand(1, 3, 6, 7)
    assert not torch.equal(a(x), b(x))
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x), b(x))


@pytest.mark.parametrize(
    "options", [{"scale": 5}, {"channels": 0}, {"num_blocks": 0}, {"interval": 0}]
)
def test_impossible_settings(options):
    with pytest.raises(UsageError):
        ENLCNConfig(**options)

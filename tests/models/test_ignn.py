"""IGNN: what it compares patches by, and images of few patches."""

import pytest
import torch

from hspan import UsageError, create_model
from hspan.models import IGNNConfig


def network(**options):
    torch.manual_seed(0)
    return create_model("ignn", channels=8, num_blocks=2, **options).eval()


def test_comparing_features_are_stored_and_not_trained():
    model = network()
    assert {k for k in model.state_dict() if k.startswith("compared.")} == {
        f"compared.conv{i}.{part}" for i in (1, 2) for part in ("weight", "bias")
    }
    assert not any(p.requires_grad for p in model.compared.parameters())


@torch.no_grad()
@pytest.mark.parametrize(("size", "padded"), [((8, 8), (12, 12)), ((3, 5), (12, 12))])
def test_images_of_few_patches(size, padded):
    x = torch.rand(1, 3, *size)
    enlarged = torch.nn.functional.pad(
        x, (0, padded[1] - size[1], 0, padded[0] - size[0]), mode="replicate"
    )
    model = network()
    assert torch.equal(model(x), model(enlarged)[..., : 2 * size[0], : 2 * size[1]])


@torch.no_grad()
@pytest.mark.parametrize("size", [(8, 140), (140, 8)])
def test_narrow_strips(size):
    """Their searched window would hold fewer patches than the graph has neighbours."""
    output = network()(torch.rand(1, 3, *size))
    assert output.shape == (1, 3, 2 * size[0], 2 * size[1])
    assert output.isfinite().all()


@torch.no_grad()
def test_one_neighbour():
    assert network(neighbours=1)(torch.rand(1, 3, 8, 9)).shape == (1, 3, 16, 18)


@pytest.mark.parametrize(
    "options", [{"scale": 8}, {"channels": 0}, {"num_blocks": 0}, {"neighbours": 10}]
)
def test_impossible_settings(options):
    with pytest.raises(UsageError):
        IGNNConfig(**options)

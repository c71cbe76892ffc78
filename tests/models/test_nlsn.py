"""NLSN: what its hash depends on, and small images."""

import pytest
import torch

from hspan import UsageError, create_model
from hspan.models import NLSNConfig


def network(**options):
    torch.manual_seed(0)
    small = {"channels": 8, "num_blocks": 2, "interval": 1, "chunk": 12, "residual_scale": 1.0}
    return create_model("nlsn", **{**small, **options}).eval()


def image(height=9, width=8):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_eval_is_deterministic():
    model, x = network(), image()
    first = model(x)
    torch.rand(5)
    assert torch.equal(model(x), first)
    assert torch.equal(network(seed=0)(x), first)
    assert not torch.equal(network(seed=1)(x), first)


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_a_generator_decides(training):
    model, x = network().train(training), image()

    def run(seed):
        return model(x, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))
    if not training:
        assert torch.equal(run(0), model(x))  # the seed of the configuration


@torch.no_grad()
def test_training_draws_from_the_global_generator():
    model, x = network().train(), image()
    torch.manual_seed(5)
    first = model(x)
    assert not torch.equal(model(x), first)
    torch.manual_seed(5)
    assert torch.equal(model(x), first)


@torch.no_grad()
@pytest.mark.parametrize(("size", "padded"), [((2, 3), (4, 4)), ((1, 11), (4, 11))])
def test_images_of_less_than_a_chunk(size, padded):
    x = image(*size)
    enlarged = torch.nn.functional.pad(
        x, (0, padded[1] - size[1], 0, padded[0] - size[0]), mode="replicate"
    )
    model = network()
    assert torch.equal(model(x), model(enlarged)[..., : 2 * size[0], : 2 * size[1]])


@pytest.mark.parametrize(
    "options", [{"scale": 5}, {"channels": 0}, {"num_blocks": 0}, {"interval": 0}]
)
def test_impossible_settings(options):
    with pytest.raises(UsageError):
        NLSNConfig(**options)

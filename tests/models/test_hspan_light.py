"""HSPAN-light: where its attention stands, and that it starts from the enlarged input."""

import pytest
import torch

from hspan import HSPA, HSPANLight, HSPANLightConfig, UsageError


def test_attention_stands_where_it_was_asked():
    model = HSPANLight(HSPANLightConfig(channels=8, num_blocks=4, attention_after=(0, 2, 4)))
    kinds = [isinstance(block, HSPA) for block in model.body]
    assert kinds == [True, False, False, True, False, False, True]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_adds_detail_to_the_enlarged_input(scale):
    model = HSPANLight(HSPANLightConfig(scale=scale, channels=8, num_blocks=1))
    torch.nn.init.zeros_(model.tail.weight)
    torch.nn.init.zeros_(model.tail.bias)
    x = torch.rand(1, 3, 4, 5)
    expected = torch.nn.functional.interpolate(x, scale_factor=scale, mode="nearest")
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize(
    "options", [{"scale": 1}, {"channels": 0}, {"num_blocks": 0}, {"attention_after": (15,)}]
)
def test_impossible_settings(options):
    with pytest.raises(UsageError):
        HSPANLightConfig(**options)

"""HSPAN's variants and the checks of its configuration."""

import pytest
import torch

from hspan import HSPA, HSPAN, NLA, HSPANConfig, UsageError


def count(model, kind) -> int:
    return sum(isinstance(m, kind) for m in model.modules())


@pytest.mark.parametrize(
    ("options", "hspa", "nla"),
    [
        ({}, 3, 0),
        ({"attention": "nla"}, 0, 3),
        ({"attention": "nla-random", "samples": 7}, 0, 3),
        ({"attention": "none"}, 0, 0),
        ({"attention_modules": (1,)}, 1, 0),
        ({"num_blocks": 0}, 3, 0),
    ],
)
def test_variants(options, hspa, nla):
    model = HSPAN(HSPANConfig(scale=2, channels=8, num_modules=3, **options))
    assert (count(model, HSPA), count(model, NLA)) == (hspa, nla)
    assert model(torch.rand(1, 3, 6, 6)).shape == (1, 3, 12, 12)


def test_settings_arrive():
    model = HSPAN(HSPANConfig(channels=8, num_modules=1, topk=5, residual_scale=0.2, reduction=4))
    block = next(m for m in model.modules() if isinstance(m, HSPA))
    assert (block.topk, block.residual_scale) == (5, 0.2)
    assert block.query[0].out_channels == 2


def test_lists_become_tuples():
    assert HSPANConfig(attention_modules=[1, 2]).attention_modules == (1, 2)  # as JSON gives them


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 5},
        {"channels": 0},
        {"num_modules": 0},
        {"num_blocks": -1},
        {"attention": "softmax"},
        {"attention_modules": (10,)},
    ],
)
def test_impossible_settings(options):
    with pytest.raises(UsageError):
        HSPANConfig(**options)

"""RNAN: where its non-local blocks stand."""

import pytest
import torch

from hspan import UsageError, create_model
from hspan.models import RNANConfig


def test_non_local_blocks_stand_at_both_ends():
    model = create_model("rnan", channels=8, num_blocks=4)
    names = [n for n, m in model.named_modules() if type(m).__name__ == "EmbeddedGaussian"]
    assert names == ["body.0.mask.non_local", "last.mask.non_local"]
    assert len(model.body) == 3


@torch.no_grad()
def test_masks_lie_between_0_and_1():
    torch.manual_seed(0)
    mask = create_model("rnan", channels=8, num_blocks=2).body[0].mask
    out = mask(10 * torch.randn(1, 8, 6, 8))
    assert out.min() >= 0
    assert out.max() <= 1


@pytest.mark.parametrize(
    "options", [{"scale": 5}, {"channels": 0}, {"num_blocks": 1}, {"inner_reduction": 0}]
)
def test_impossible_settings(options):
    with pytest.raises(UsageError):
        RNANConfig(**options)

"""Autocast is off where a network says so, and nothing is needed on the meta device."""

import pytest
import torch

from hspan.modules.precision import without_autocast


def test_products_keep_their_precision():
    x = torch.rand(3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with without_autocast(x):
            assert (x @ x).dtype == torch.float32


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_wherever_a_network_runs(device):
    x = torch.rand(3, 3, device=device)
    with without_autocast(x):
        assert (x @ x).device.type == device

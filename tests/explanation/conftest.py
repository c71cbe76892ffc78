"""Small networks, and what their attention is given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hspan.models import create_model


def _network(name, seed=0, **config):
    """A network with random weights, in eval mode; soft thresholds need some spread of scores."""
    torch.manual_seed(seed)
    model = create_model(name, **config).eval().requires_grad_(False)
    for module in model.modules():
        if hasattr(module, "query"):
            for part in (module.query, module.key):
                for weight in part.parameters():
                    weight.data.mul_(3)
    return model


def _noise(height, width, channels=3, seed=1, dtype=np.uint8):
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(seed).integers(0, top, (height, width, channels)).astype(dtype)


@pytest.fixture
def network():
    return _network


@pytest.fixture
def noise():
    return _noise


@pytest.fixture
def inputs_of():
    return _inputs_of


@pytest.fixture
def image():
    return _noise(11, 14)


def _inputs_of(model, module, image):
    """What every call of a module is given: [1, C, H, W] each."""
    found = []
    handle = module.register_forward_pre_hook(lambda _, arguments: found.append(arguments[0]))
    x = torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0).float() / 255
    with torch.no_grad():
        model(x)
    handle.remove()
    return found

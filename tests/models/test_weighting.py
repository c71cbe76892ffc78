"""Networks whose softmax can be replaced: how often they apply it, and the way back."""

import pytest
import torch

from hspan import create_model
from hspan.modules.weighting import ReplaceableWeighting, applications

CHANGEABLE = {  # name: settings, and attentions applied in a forward pass
    "san": ({"channels": 16, "num_groups": 1, "num_blocks": 1}, 2),
    "csnln": ({"channels": 8, "depth": 3}, 6),
    "nlsn": ({"channels": 8, "num_blocks": 2, "interval": 1, "chunk": 12}, 3),
    "rnan": ({"channels": 8, "num_blocks": 2}, 2),
}


def declared(model):
    return [m for m in model.modules() if isinstance(m, ReplaceableWeighting)]


@pytest.mark.parametrize("name", CHANGEABLE)
def test_there_and_back(name):
    settings, count = CHANGEABLE[name]
    torch.manual_seed(0)
    model = create_model(name, **settings).eval()
    modules = declared(model)
    assert sum(map(applications, modules)) == count
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.rand(1, 3, 10, 12)
    with torch.no_grad():
        before = model(x)
        for module in modules:
            module.weighting = "soft-threshold"
        changed = model(x)
        for module in modules:
            module.weighting = "softmax"
        assert torch.equal(model(x), before)
    assert not torch.equal(changed, before)
    assert changed.isfinite().all()
    assert all(torch.equal(model.state_dict()[key], value) for key, value in weights.items())


def test_attentions_of_the_published_networks():
    """As Section IV-C3 counts them: 24 in CSNLN, two in SAN."""
    for name, scale, count in (("csnln", 2, 24), ("csnln", 3, 24), ("san", 4, 2), ("nlsn", 2, 5)):
        model = create_model(name, scale=scale, channels=8 if name != "san" else 16)
        assert sum(map(applications, declared(model))) == count


@pytest.mark.parametrize("name", CHANGEABLE)
def test_gradients_with_soft_thresholding(name):
    torch.manual_seed(0)
    model = create_model(name, **CHANGEABLE[name][0])
    for module in declared(model):
        module.weighting = "soft-threshold"
    x = torch.rand(1, 3, 10, 12, requires_grad=True)
    model(x).square().mean().backward()
    assert x.grad.abs().sum() > 0
    for module in declared(model):
        assert all(p.grad.isfinite().all() for p in module.parameters())
        assert any(p.grad.abs().sum() > 0 for p in module.parameters())

"""Dead units come back, and the network computes what it did."""

from copy import deepcopy

import pytest
import torch

from hspan.models import create_model
from hspan.training import Muon
from hspan.training._revive import revive_units

DEAD = [0, 5]
GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(2, 3, 12, 10, generator=GENERATOR)


def network():
    """hspan-light with two blocks; two units of the second never fire."""
    torch.manual_seed(1)
    made = create_model("hspan-light", scale=2, channels=8, num_blocks=2, attention_after=[1])
    with torch.no_grad():
        made.body[2].conv1.bias[DEAD] = -100
    return made


def adam(model):
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def muon(model):
    return Muon(model.named_parameters(), lr=1e-3, matrix_lr=1e-2)


def train(model, optimizer, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        model(X).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("optimizer", [adam, muon])
def test_same_function_and_units_that_learn(optimizer):
    model = network()
    average = deepcopy(model)
    steps = optimizer(model)
    train(model, steps)
    block = model.body[2]
    kept = deepcopy(block.state_dict())
    with torch.no_grad():
        before, before_average = model(X), average(X)

    assert revive_units(model, average, steps, X, seed=3) == len(DEAD)
    with torch.no_grad():
        torch.testing.assert_close(model(X), before)
        torch.testing.assert_close(average(X), before_average)
    alive = [i for i in range(8) if i not in DEAD]
    for name, dim in (("conv1.weight", 0), ("conv1.bias", 0), ("conv2.weight", 1)):
        now = block.state_dict()[name].transpose(0, dim)
        assert torch.equal(now[alive], kept[name].transpose(0, dim)[alive]), name
        parameter = block.get_parameter(name)
        for state in steps.state[parameter].values():
            if state.dim():
                assert not state.transpose(0, dim)[DEAD].any()
                assert state.transpose(0, dim)[alive].any()
    assert torch.equal(average.body[2].conv1.weight[DEAD], block.conv1.weight[DEAD])

    seen = []
    with block.conv2.register_forward_pre_hook(lambda _, args: seen.append(args[0])):
        model(X)
    share = (seen[0][:, DEAD] > 0).float().mean((0, 2, 3))
    assert ((share > 0.1) & (share < 0.9)).all()

    assert revive_units(model, average, steps, X, seed=4) == 0
    train(model, steps)
    assert block.conv2.weight[:, DEAD].any()
    before = block.conv1.weight[DEAD].clone()
    train(model, steps)
    assert not torch.equal(block.conv1.weight[DEAD], before)


def test_devices_decide_alike():
    """A unit that fires on another device isn't dead."""
    model = network()
    optimizer = adam(model)

    def gather(t):
        other = torch.zeros_like(t)
        other[DEAD[0]] = 1
        return torch.stack([t, other])

    assert revive_units(model, None, optimizer, X, 0, gather) == 1
    assert model.body[2].conv1.bias[DEAD[0]] == -100
    assert model.body[2].conv1.bias[DEAD[1]] > -100


def test_networks_without_such_units_are_left_alone():
    model = create_model("srcnn", scale=2)
    before = deepcopy(model.state_dict())
    assert revive_units(model, None, adam(model), X, 0) == 0
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())

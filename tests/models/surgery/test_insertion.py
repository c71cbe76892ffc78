"""HSPA inserted into networks: what changes, what stays, and the way back."""

import copy

import pytest
import torch
from torch import nn

from hspan import HSPA, UsageError, add_hspa, create_model, remove_hspa


class Toy(nn.Module):
    """Somebody's network: a block used twice, a list, a module that gives two tensors."""

    class Two(nn.Module):
        def forward(self, x):
            return x, x

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.blocks = nn.ModuleList([nn.Conv2d(6, 6, 1), nn.ReLU(inplace=True)])
        self.shared = nn.Conv2d(6, 6, 1)
        self.two = self.Two()
        self.flat = nn.Flatten()
        self.unused = nn.Conv2d(6, 6, 1)

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        x, y = self.two(self.shared(self.shared(x)))
        self.flat(x)
        return x + y


@pytest.fixture
def toy():
    torch.manual_seed(0)
    return Toy()


@pytest.fixture
def x():
    return torch.rand(2, 1, 7, 9, generator=torch.Generator().manual_seed(1))


def trainable(model) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_a_block_follows_the_module(toy, x):
    plain = copy.deepcopy(toy)
    add_hspa(toy, "blocks.0", example=x, topk=5, residual_scale=0.3)
    (block,) = (m for m in toy.modules() if isinstance(m, HSPA))
    assert (block.topk, block.residual_scale) == (5, 0.3)
    seen = []
    # Copies: the ReLU that follows works in place.
    plain.blocks[0].register_forward_hook(lambda module, args, out: seen.append(out.clone()))
    toy.blocks[1].register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    plain(x)
    toy(x)
    assert torch.equal(block(seen[0]), seen[1])


def test_a_sequential_runs_it_last(x):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU()), nn.Conv2d(4, 1, 1))
    inner = network[0](x)
    add_hspa(network, "0", example=x)
    block = network[0].inserted_hspa
    assert torch.equal(network(x), network[1](block(inner)))
    remove_hspa(network)
    assert torch.equal(network[0](x), inner)


def test_a_module_that_is_called_twice(toy, x):
    calls = []
    add_hspa(toy, "shared", example=x)
    toy.shared.inserted_hspa.register_forward_hook(lambda *_: calls.append(1))
    toy(x)
    assert len(calls) == 2


def test_report(toy, x):
    before = trainable(toy)
    report = add_hspa(toy, ["first", "blocks.0"], example=x)
    assert (report.network, report.action) == ("Toy", "inserted")
    assert [(b.path, b.channels) for b in report.blocks] == [("first", 6), ("blocks.0", 6)]
    # Query and key 6·3 + 3 + 1 each, value 6·6 + 6 + 1.
    assert {b.parameters for b in report.blocks} == {22 + 22 + 43}
    assert (report.parameters_before, report.parameters_after) == (before, before + 174)
    assert trainable(toy) == before + 174
    assert str(report).splitlines() == [
        f"Toy: 2 HSPA blocks inserted, {before} + 174 = {before + 174} trainable parameters",
        "  after first     6 channels, 87 parameters",
        "  after blocks.0  6 channels, 87 parameters",
    ]


def test_removed_without_a_trace(toy, x):
    toy.eval()
    plain, keys, text = toy(x), list(toy.state_dict()), str(toy)
    add_hspa(toy, ["first", "**.0", "shared"], example=x)
    assert not torch.equal(toy(x), plain)
    report = remove_hspa(toy)
    assert (len(report.blocks), report.action) == (4, "removed")
    assert torch.equal(toy(x), plain)
    assert (list(toy.state_dict()), str(toy)) == (keys, text)
    assert not any(module._forward_hooks for module in toy.modules())
    assert remove_hspa(toy).blocks == ()


def test_own_hspa_stays(x):
    network = create_model("hspan", scale=2, channels=8, num_modules=1)
    add_hspa(network, "conv")
    remove_hspa(network)
    assert isinstance(network.body[0].attention, HSPA)


def test_identity_until_trained(toy, x):
    toy.eval()
    plain = toy(x)
    add_hspa(toy, ["first", "shared"], example=x, identity=True)
    assert torch.equal(toy(x), plain)
    # Values learn at once; queries and keys as soon as there are values.
    optimizer = torch.optim.SGD(toy.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        toy(x).square().mean().backward()
        optimizer.step()
    for parameter in toy.first.inserted_hspa.parameters():
        assert parameter.grad.abs().sum() > 0


def test_original_checkpoint_keeps_loading(toy, x):
    original = copy.deepcopy(toy.state_dict())
    with torch.no_grad():
        for parameter in toy.parameters():
            parameter.mul_(2)
    add_hspa(toy, ["first", "blocks.0"], example=x)
    block = copy.deepcopy(toy.blocks[0].inserted_hspa.state_dict())
    assert set(original) < set(toy.state_dict())
    toy.load_state_dict(original)
    for key, value in original.items():
        assert torch.equal(toy.state_dict()[key], value), key
    for key, value in block.items():
        assert torch.equal(toy.blocks[0].inserted_hspa.state_dict()[key], value), key


def test_loading_stays_strict(toy, x):
    add_hspa(toy, "blocks.0", example=x)
    whole = toy.state_dict()
    for key in ("first.0.weight", "blocks.0.inserted_hspa.value.0.bias"):
        part = {name: value for name, value in whole.items() if name != key}
        with pytest.raises(RuntimeError, match=key):
            toy.load_state_dict(part)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        Toy().load_state_dict(whole)


def test_copies_use_their_own_blocks(toy, x):
    add_hspa(toy, "blocks.0", example=x)
    twin = copy.deepcopy(toy).eval()
    expected = twin(x)
    nn.init.constant_(toy.blocks[0].inserted_hspa.value[0].weight, 9.0)
    assert torch.equal(twin(x), expected)
    assert len(remove_hspa(twin).blocks) == 1
    assert not torch.equal(twin(x), expected)


def test_mode_dtype_and_statistics_are_the_networks(toy, x):
    toy.double().eval()
    toy.shared.train()
    statistics = toy.first[1].running_mean.clone()
    add_hspa(toy, ["shared", "blocks.0"], example=x.double())
    assert torch.equal(toy.first[1].running_mean, statistics)
    shared, other = toy.shared.inserted_hspa, toy.blocks[0].inserted_hspa
    assert (shared.training, other.training, toy.shared.training) == (True, False, True)
    assert shared.value[0].weight.dtype == torch.float64
    assert toy(x.double()).dtype == torch.float64


def test_on_the_meta_device():
    with torch.device("meta"):
        network = create_model("hspan-light", scale=2)
    report = add_hspa(network, "body.3")
    assert report.blocks[0].channels == 60
    assert network.body[3].inserted_hspa.value[0].weight.is_meta


def test_compiles_without_graph_breaks(x):
    torch.manual_seed(0)
    network = create_model("hspan-light", scale=2, channels=8, num_blocks=1).eval()
    add_hspa(network, ["conv", "body"])
    image = torch.rand(1, 3, 6, 7)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image), network(image))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("unused", "unused isn't called"),
        ("blocks", "blocks isn't called"),
        ("two", "two gives a tuple"),
        ("flat", r"flat gives \[2, 378\]"),
        ("sharde", "did you mean shared"),
        (None, "where should HSPA go in Toy"),
    ],
)
def test_impossible_places_change_nothing(toy, x, where, message):
    keys, text = list(toy.state_dict()), str(toy)
    with pytest.raises(UsageError, match=message):
        add_hspa(toy, where if where is None else ["first", where], example=x)
    assert (list(toy.state_dict()), str(toy)) == (keys, text)
    assert not any(module._forward_hooks for module in toy.modules())


def test_twice_at_one_place(toy, x):
    add_hspa(toy, "shared", example=x)
    with pytest.raises(UsageError, match="shared has an HSPA already"):
        add_hspa(toy, "shared", example=x)
    with pytest.raises(UsageError, match="remove_hspa takes it out"):
        add_hspa(toy, "shared.inserted_hspa.value", example=x)


def test_a_network_that_takes_something_else(toy):
    with pytest.raises(UsageError, match="as example="):
        add_hspa(toy, "shared")
    assert toy.training

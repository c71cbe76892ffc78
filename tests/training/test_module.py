"""One step against the same step written out; skipping; averaging."""

import warnings

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hspan.models import create_model
from hspan.training import DivergenceError, SRTrainingModule, lr_factor

GENERATOR = torch.Generator().manual_seed(0)
BATCH = (
    torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8, generator=GENERATOR),
    torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=GENERATOR),
)


class Forever:
    """The same batch again and again."""

    def __iter__(self):
        while True:
            yield BATCH


class Network(nn.Module):
    """Two layers, and a poison that makes some steps fail."""

    def __init__(self, bad_steps=()):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 12, 3, padding=1)
        self.bad_steps = set(bad_steps)
        self.calls = 0

    def forward(self, x):
        out = F.pixel_shuffle(self.conv(x), 2)
        self.calls += 1
        return out * float("nan") if self.calls - 1 in self.bad_steps else out


def fit(network, recipe, each=lambda module: None):
    class Each(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            each(pl_module)

    module = SRTrainingModule(network, recipe)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=recipe.training.max_steps,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Each()],
    )
    trainer.fit(module, Forever())
    return module


def by_hand(recipe, steps):
    """The same training in plain torch: weights, averages and loss of each step."""
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=1.0)
    mean = [p.detach().clone() for p in network.parameters()]
    history = []
    for step in range(steps):
        factor = lr_factor(recipe.schedule, step, recipe.training.max_steps)
        optimizer.param_groups[0]["lr"] = recipe.optimizer.lr * factor
        optimizer.zero_grad()
        error = network(BATCH[0] / 255) - BATCH[1] / 255
        loss = error.abs().mean() if recipe.training.loss == "l1" else error.square().mean()
        loss.backward()
        if recipe.optimizer.clip:
            nn.utils.clip_grad_norm_(network.parameters(), recipe.optimizer.clip)
        optimizer.step()
        decay = min(recipe.training.ema, (1 + step) / (10 + step))
        mean = [
            decay * m + (1 - decay) * p.detach()
            for m, p in zip(mean, network.parameters(), strict=True)
        ]
        history.append(([p.detach().clone() for p in network.parameters()], mean, loss.item()))
    return history


@pytest.fixture
def quiet_lightning():
    with warnings.catch_warnings():
        # As in hspan.training.train.
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        yield


@pytest.mark.usefixtures("quiet_lightning")
@pytest.mark.parametrize("loss", ["l1", "mse"])
def test_steps_match_plain_torch(tiny, loss):
    settings = ("optimizer.clip=0.05", "training.ema=0.5", "training.max_steps=5")
    recipe = tiny(*settings, f"training.loss={loss}")
    history = []

    def record(module):
        weights = [p.detach().clone() for p in module.network.parameters()]
        history.append((weights, [p.clone() for p in module.average.parameters()]))

    fit(Network(), recipe, record)
    expected = by_hand(recipe, 5)
    for got, want in zip(history, expected, strict=True):
        for a, b in zip(got[0] + got[1], want[0] + want[1], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    assert not torch.equal(history[-1][0][0], history[-1][1][0])


@pytest.mark.usefixtures("quiet_lightning")
def test_bad_steps_change_nothing_but_are_counted(tiny):
    weights, adam_steps, skipped = [], [], []

    def record(module):
        weights.append(module.network.conv.weight.detach().clone())
        state = module.optimizers().state[module.network.conv.weight]
        adam_steps.append(float(state["step"]))
        skipped.append((int(module.skipped), int(module.skipped_in_a_row)))

    module = fit(Network(bad_steps={2, 3}), tiny("training.max_steps=5"), record)
    assert skipped == [(0, 0), (0, 0), (1, 1), (2, 2), (2, 0)]
    assert adam_steps == [1, 2, 2, 2, 3]
    assert torch.equal(weights[1], weights[2])
    assert torch.equal(weights[1], weights[3])
    assert not torch.equal(weights[3], weights[4])
    assert module.global_step == 5
    assert all(p.isfinite().all() for p in module.result.parameters())


@pytest.mark.usefixtures("quiet_lightning")
def test_bad_steps_leave_muon_s_momentum(tiny):
    weights = []

    def record(module):
        weights.append(module.network.conv[1].weight.detach().clone())

    network = Network(bad_steps={1})
    sizes = ((3, 8), (8, 8), (8, 12))
    network.conv = nn.Sequential(*(nn.Conv2d(i, o, 3, padding=1) for i, o in sizes))
    module = fit(network, tiny("training.max_steps=3", "optimizer.name=muon"), record)
    assert int(module.skipped) == 1
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    assert all(p.isfinite().all() for p in module.result.parameters())


@pytest.mark.usefixtures("quiet_lightning")
def test_gives_up_when_nothing_but_bad_steps(tiny):
    network = Network(bad_steps=range(60))
    with pytest.raises(DivergenceError, match=r"50 steps in a row.*lower optimizer\.lr"):
        fit(network, tiny("training.max_steps=60"), lambda module: module.take_log())
    assert network.calls == 50


@pytest.mark.usefixtures("quiet_lightning")
def test_log_holds_means_since_the_last(tiny):
    logs = []

    def record(module):
        if module.global_step % 2 == 0:
            logs.append(module.take_log())

    recipe = tiny("training.max_steps=4", "optimizer.clip=0.0")
    fit(Network(), recipe, record)
    losses = [loss for _, _, loss in by_hand(recipe, 4)]
    means = [(losses[0] + losses[1]) / 2, (losses[2] + losses[3]) / 2]
    assert [log["loss"] for log in logs] == pytest.approx(means, rel=1e-4)
    assert logs[0]["lr"] == pytest.approx(1e-3)  # after two steps of warm-up
    assert logs[0]["grad_norm"] > 0


def test_memory_layout(tiny):
    network = SRTrainingModule(Network(), tiny()).network
    assert network.conv.weight.is_contiguous(memory_format=torch.channels_last)
    network = SRTrainingModule(Network(), tiny("training.channels_last=false")).network
    assert not network.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_without_average_the_weights_themselves_are_the_result(tiny):
    network = Network()
    assert SRTrainingModule(network, tiny("training.ema=0.0")).result is network


@pytest.mark.usefixtures("quiet_lightning")
@pytest.mark.parametrize("every", [0, 2])
def test_units_that_never_fire_are_revived_on_demand(tiny, every):
    torch.manual_seed(0)
    network = create_model("hspan-light", scale=2, channels=8, num_blocks=1, attention_after=[1])
    with torch.no_grad():
        network.body[0].conv1.bias[3] = -100
    module = fit(network, tiny(f"training.revive_every={every}", "training.ema=0.9"))
    for block in (module.network.body[0], module.average.body[0]):
        assert (block.conv1.bias[3] > -99) == bool(every)

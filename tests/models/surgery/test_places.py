"""The usual places, and networks whose softmax the paper replaces."""

from pathlib import Path

import pytest
import torch

from hspan import HSPA, add_hspa, create_model, remove_hspa, replace_softmax, restore_softmax
from hspan.modules import ReplaceableWeighting
from hspan.modules.weighting import applications

DOCUMENT = (Path(__file__).parents[3] / "docs" / "generality.md").read_text(encoding="utf-8")
SMALL = {
    "fsrcnn": {},
    "edsr": {"channels": 8, "num_blocks": 6},
    "rcan": {"channels": 8, "num_groups": 3, "num_blocks": 1, "reduction": 2},
    "rdn": {"channels": 8, "growth": 6, "num_blocks": 2, "num_layers": 3},
    "drln": {"channels": 8, "cascades": (1, 3), "reduction": 1},
    "han": {"channels": 8, "num_groups": 2, "num_blocks": 2, "reduction": 2},
    "oisr-rk2-s": {"channels": 8, "num_blocks": 3},
}
PATHS = {
    "fsrcnn": ["shrink", "mapping"],
    "edsr": ["body.2"],
    "rcan": ["body.1"],
    "rdn": ["blocks.0"],
    "drln": ["cascades.0"],
    "han": ["body.0"],
    "oisr-rk2-s": ["body.1"],
}


@pytest.mark.parametrize("name", SMALL)
def test_usual_places(name):
    torch.manual_seed(0)
    model = create_model(name, scale=2, **SMALL[name]).eval()
    original, x = model.state_dict(), torch.rand(1, 3, 9, 10)
    plain = model(x)
    report = add_hspa(model)
    assert [block.path for block in report.blocks] == PATHS[name]
    assert not torch.equal(model(x), plain)
    model.load_state_dict(original)
    remove_hspa(model)
    assert torch.equal(model(x), plain)


def test_fsrcnn_as_published():
    """12,644 parameters and 630 more, in two blocks of 12 channels (Fig. 7)."""
    model = create_model("fsrcnn", scale=2)
    report = add_hspa(model)
    assert [(b.channels, b.parameters) for b in report.blocks] == [(12, 315), (12, 315)]
    assert (report.parameters_before, report.parameters_after) == (12_644, 13_274)
    assert str(report) in DOCUMENT


def test_softmax_of_csnln_as_published():
    """24 attention modules: two that all twelve stages share (Fig. 8)."""
    with torch.device("meta"):
        model = create_model("csnln", scale=2)
    report = replace_softmax(model)
    assert (report.applications, report.parameters) == (24, 3_061_265)
    assert str(report) in DOCUMENT
    assert len(restore_softmax(model).modules) == 2


@pytest.mark.parametrize(("name", "count"), [("nlsn", 5), ("san", 2), ("rnan", 2), ("enlcn", 0)])
def test_attention_modules(name, count):
    with torch.device("meta"):
        model = create_model(name, scale=2)
    found = [m for m in model.modules() if isinstance(m, ReplaceableWeighting)]
    assert sum(applications(m) for m in found) == count


@pytest.mark.parametrize("name", ["edsr", "rcan"])
def test_full_networks(name):
    with torch.device("meta"):
        model = create_model(name, scale=2)
        report = add_hspa(model)
    (block,) = report.blocks
    # Query and key C·C/2 + C/2 + 1 each, value C·C + C + 1.
    assert block.parameters == 2 * block.channels**2 + 2 * block.channels + 3
    assert sum(isinstance(m, HSPA) for m in model.modules()) == 1


ATTENTIVE = {
    "san": {"channels": 8, "num_groups": 2, "num_blocks": 1, "reduction": 2},
    "rnan": {"channels": 8, "num_blocks": 3},
    "csnln": {"channels": 8, "depth": 2},
    "nlsn": {"channels": 8, "num_blocks": 2, "interval": 2, "chunk": 36, "rounds": 2},
}


@pytest.mark.parametrize("name", ATTENTIVE)
@torch.no_grad()
def test_networks_with_softmax_replaced(name):
    torch.manual_seed(0)
    model = create_model(name, scale=2, **ATTENTIVE[name]).eval()
    for parameter in model.parameters():
        if not parameter.any():  # a gate that is closed before training
            torch.nn.init.constant_(parameter, 0.1)
    original, x = model.state_dict(), torch.rand(1, 3, 12, 13)
    softmax = model(x)
    assert replace_softmax(model).modules
    model.load_state_dict(original)
    sparse = model(x)
    assert sparse.isfinite().all()
    assert not torch.equal(sparse, softmax)
    restore_softmax(model)
    assert torch.equal(model(x), softmax)

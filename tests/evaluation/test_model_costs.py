"""What `hspan models` prints of every network is what the networks are."""

import pytest
import torch

from hspan import UsageError, create_model
from hspan.evaluation import model_costs
from hspan.evaluation._model_costs import count_costs
from hspan.models import MODELS, PAPERS

# Networks that attend, pool over the image or transform it.
GLOBAL = {"hspan", "hspan-s", "hspan-light", "rcan", "han", "drln", "san", "nlsn", "enlcn"}


def test_every_network_has_its_costs_and_its_paper():
    """A new network needs a row in models/papers.py, and a run of benchmarks/model_costs.py."""
    assert {name for name in MODELS if model_costs(name)} == set(MODELS)
    assert set(PAPERS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_parameters(name):
    for scale, cost in model_costs(name).items():
        with torch.device("meta"):
            network = create_model(name, scale=scale)
        assert sum(p.numel() for p in network.parameters() if p.requires_grad) == cost.parameters


@pytest.mark.parametrize("name", MODELS)
def test_multiply_adds(name):
    scale = max(model_costs(name))
    cost = model_costs(name)[scale]
    assert count_costs(name, scale) == (cost.parameters, cost.multiply_adds)


@pytest.mark.parametrize("name", MODELS)
def test_receptive_fields(name):
    fields = [cost.receptive_field for cost in model_costs(name).values()]
    if name in GLOBAL:
        assert set(fields) == {None}
    else:
        assert all(field is None or 1 <= field < 1024 for field in fields)


def test_unknown_network():
    assert model_costs("hspna") == {}
    with pytest.raises(UsageError, match="did you mean"):
        count_costs("hspna", 2)

"""What `hspan models` prints of every network is what the networks are."""

import pytest

from hspan import UsageError
from hspan.evaluation import count_multiply_adds, model_costs
from hspan.evaluation._model_costs import (
    build_on_meta,
    count_parameters,
    count_patch,
    measure_field,
)
from hspan.models import MODELS, PAPERS

GLOBAL = set("hspan hspan-s hspan-light rcan han drln san rnan ignn csnln nlsn enlcn ircnn".split())


def test_every_network_has_its_costs_and_its_paper():
    """A new network needs a row in models/papers.py, and a run of benchmarks/model_costs.py."""
    assert {name for name in MODELS if model_costs(name)} == set(MODELS)
    assert set(MODELS) <= set(PAPERS)


@pytest.mark.parametrize("name", MODELS)
def test_parameters(name):
    costs = model_costs(name)
    for scale in (2, 3, 4):
        network = build_on_meta(name, scale)
        assert (network is None) == (scale not in costs)
        if network is not None:
            assert count_parameters(network) == costs[scale].parameters


# IRCNN's iterations are thousands of operators, which take seconds to count.
@pytest.mark.parametrize("name", [name for name in MODELS if name != "ircnn"])
def test_work_of_a_patch(name):
    scale, cost = max(model_costs(name).items())
    assert count_patch(build_on_meta(name, scale)) == cost.patch_multiply_adds


@pytest.mark.parametrize("name", ["fsrcnn", "hspan-light", "dbpn", "swinir-light"])
def test_work_of_the_whole_image(name):
    network = build_on_meta(name, 4)
    assert count_multiply_adds(network, 180, 320) == model_costs(name)[4].multiply_adds


@pytest.mark.parametrize("name", MODELS)
def test_receptive_fields(name):
    """Global where a network attends to the whole image or pools channels over it.

    IRCNN's iterations reach further than 1,024 columns.
    """
    fields = {cost.receptive_field for cost in model_costs(name).values()}
    assert (fields == {None}) == (name in GLOBAL)


@pytest.mark.parametrize("name", ["fsrcnn", "edsr-baseline", "hspan-light"])
def test_receptive_fields_measured(name):
    assert measure_field(name, 2) == model_costs(name)[2].receptive_field


def test_unknown_network():
    assert model_costs("hspna") == {}
    with pytest.raises(UsageError, match="did you mean"):
        build_on_meta("hspna", 2)

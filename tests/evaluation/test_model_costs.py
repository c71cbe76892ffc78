"""What `hspan models` prints of every network is what the networks are."""

import pytest

from hspan import UsageError
from hspan.evaluation import count_multiply_adds, model_costs
from hspan.evaluation._model_costs import _GLOBAL, build_on_meta, count_parameters, count_patch
from hspan.models import MODELS, PAPERS


def test_every_network_has_its_costs_and_its_paper():
    """A new network needs a row in models/papers.py, and a run of benchmarks/model_costs.py."""
    assert {name for name in MODELS if model_costs(name)} == set(MODELS)
    assert set(PAPERS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_counts(name):
    """Of parameters at every scale, and of the work of a small image at the largest."""
    costs = model_costs(name)
    for scale in (2, 3, 4):
        network = build_on_meta(name, scale)
        assert (network is None) == (scale not in costs)
        if network is not None:
            assert count_parameters(network) == costs[scale].parameters
    network = build_on_meta(name, max(costs))
    assert count_patch(network) == costs[max(costs)].patch_multiply_adds


@pytest.mark.parametrize("name", ["fsrcnn", "hspan-light", "dbpn", "swinir-light"])
def test_work_of_the_whole_image(name):
    network = build_on_meta(name, 4)
    assert count_multiply_adds(network, 180, 320) == model_costs(name)[4].multiply_adds


@pytest.mark.parametrize("name", MODELS)
def test_receptive_fields(name):
    fields = {cost.receptive_field for cost in model_costs(name).values()}
    assert (fields == {None}) == (name in _GLOBAL)


def test_unknown_network():
    assert model_costs("hspna") == {}
    with pytest.raises(UsageError, match="did you mean"):
        build_on_meta("hspna", 2)

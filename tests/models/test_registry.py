"""Names and settings: the nearest valid one is offered."""

import json

import pytest
import torch

from hspan import UsageError, create_model, list_models
from hspan.models import MODELS, config_dict


def test_names():
    assert list_models() == list(MODELS)
    assert {"hspan", "hspan-s", "hspan-light"} <= set(list_models())


def test_small_variant_has_one_attention():
    with torch.device("meta"):
        model = create_model("hspan-s")
    assert sum(type(m).__name__ == "HSPA" for m in model.modules()) == 1


@pytest.mark.parametrize("name", MODELS)
def test_configuration_survives_json(name):
    with torch.device("meta"):
        model = create_model(name, scale=3)
        again = MODELS[name].config(**json.loads(json.dumps(config_dict(model))))
    assert again == model.config


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("hspna", {}, "did you mean .*hspan"),
        ("xyz", {}, "choose from"),
        ("hspan", {"chanels": 3}, "did you mean channels"),
        ("hspan", {"scale": 7}, "2, 3 or 4"),
    ],
)
def test_wrong_calls(name, options, match):
    with pytest.raises(UsageError, match=match):
        create_model(name, **options)

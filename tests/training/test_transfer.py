"""Weights of another scale: what fits is copied, the rest is named."""

import pytest
import torch

from hspan.errors import WeightsError
from hspan.models import create_model
from hspan.training import transfer_weights
from hspan.weights import save_model

TINY = {"channels": 8, "num_modules": 2}


def test_from_x2_to_x3(tmp_path):
    source = create_model("hspan", scale=2, **TINY)
    save_model(source, tmp_path / "a.safetensors", name="hspan")
    network = create_model("hspan", scale=3, **TINY)
    before = {key: t.clone() for key, t in network.state_dict().items()}
    sentence = transfer_weights(tmp_path / "a.safetensors", network)
    given = source.state_dict()
    changed = [k for k, t in network.state_dict().items() if not torch.equal(t, before[k])]
    for key, tensor in network.state_dict().items():
        same_shape = key in given and given[key].shape == tensor.shape
        assert torch.equal(tensor, given[key] if same_shape else before[key])
    assert len(changed) > 20
    fresh = [key for key in before if key not in given or given[key].shape != before[key].shape]
    assert fresh  # the upsampler
    for key in fresh:
        assert key in sentence.split("newly initialised: ")[1]
    assert f"{len(before) - len(fresh)} of {len(before)} tensors copied" in sentence


def test_nothing_fits(tmp_path):
    source = create_model("hspan", scale=2, **TINY)
    save_model(source, tmp_path / "a.safetensors", name="hspan")
    with pytest.raises(WeightsError, match="no tensor fits"):
        transfer_weights(tmp_path / "a.safetensors", torch.nn.Linear(3, 5))

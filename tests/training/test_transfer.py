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


@pytest.mark.parametrize(
    ("name", "narrow", "wide"), [("hspan-light", 6, 10), ("hspan", 8, 12), ("edsr-baseline", 4, 7)]
)
def test_a_wider_network_begins_with_the_same_function(name, narrow, wide, tmp_path):
    depth = {"hspan": {"num_modules": 2}, "hspan-light": {"num_blocks": 2}}
    size = depth.get(name, {"num_blocks": 2})
    source = create_model(name, scale=2, channels=narrow, **size).eval()
    save_model(source, tmp_path / "a.safetensors", name=name)
    network = create_model(name, scale=2, channels=wide, **size).eval()
    sentence = transfer_weights(tmp_path / "a.safetensors", network)
    assert f"widened from {narrow} to {wide} channels" in sentence
    x = torch.rand(2, 3, 17, 12)
    torch.testing.assert_close(network(x), source(x), rtol=1e-4, atol=1e-4)
    # New channels aren't silent: gradients reach weights on both sides of them.
    network.train()(x).sum().backward()
    weight = next(p for n, p in network.named_parameters() if n.endswith("conv2.weight"))
    assert weight.grad is not None
    assert weight.grad[:narrow, narrow:].abs().sum() > 0


def test_only_networks_that_differ_in_width_alone_are_widened(tmp_path):
    source = create_model("hspan-light", scale=2, channels=6, num_blocks=2)
    save_model(source, tmp_path / "a.safetensors", name="hspan-light")
    network = create_model("hspan-light", scale=3, channels=10, num_blocks=2)
    sentence = transfer_weights(tmp_path / "a.safetensors", network)
    assert "widened" not in sentence
    assert "head.weight" in sentence.split("newly initialised: ")[1]


def test_nothing_fits(tmp_path):
    source = create_model("hspan", scale=2, **TINY)
    save_model(source, tmp_path / "a.safetensors", name="hspan")
    with pytest.raises(WeightsError, match="no tensor fits"):
        transfer_weights(tmp_path / "a.safetensors", torch.nn.Linear(3, 5))

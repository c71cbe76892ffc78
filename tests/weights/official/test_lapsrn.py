"""LapSRN: the usual port, and the authors' MatConvNet files."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.imaging import imresize
from hspan.weights.official import recognise

CHANNELS, DEPTH = 5, 2


def port_weights(program, levels, channels=CHANNELS, depth=DEPTH):
    program.add("conv_input", 1, channels)
    for level in range(1, levels + 1):
        for i in range(depth):
            program.add(f"convt_F{level}.0.cov_block.{2 * i}", channels, channels)
        up = f"convt_F{level}.0.cov_block.{2 * depth}"
        program.add(up, channels, channels, 4, transposed=True)
        program.add(f"convt_I{level}", 1, 1, 4, transposed=True)
        program.add(f"convt_R{level}", channels, 1)
    return {key: w for key, w in program.weights.items() if key.endswith("weight")}


def port_output(weights, levels, y):
    def relu(x):
        return F.leaky_relu(x, 0.2)

    def double(key, x):
        return F.conv_transpose2d(x, weights[f"{key}.weight"], stride=2, padding=1)

    features = relu(F.conv2d(y, weights["conv_input.weight"], padding=1))
    for level in range(1, levels + 1):
        block = f"convt_F{level}.0.cov_block"
        for i in range(DEPTH):
            features = relu(F.conv2d(features, weights[f"{block}.{2 * i}.weight"], padding=1))
        features = relu(double(f"{block}.{2 * DEPTH}", features))
        residual = F.conv2d(features, weights[f"convt_R{level}.weight"], padding=1)
        y = double(f"convt_I{level}", y) + residual
    return y


def reduced(y, levels, scale):
    return y if 2**levels == scale else imresize(y, scale / 2**levels)


@pytest.fixture
def matconvnet():
    """A DagNN of so many levels, the first of which has the highest number."""
    rng = np.random.default_rng(0)

    def parameter(name, *shape):
        spread = 1.2 / np.sqrt(np.prod(shape[:3])) if len(shape) > 2 else 0.2
        value = (rng.standard_normal(shape) * spread).astype(np.float32)
        return {"name": name, "value": value, "learningRate": 1.0}

    def net(levels):
        c = CHANNELS
        params = [parameter("input_conv_f", 3, 3, 1, c), parameter("input_conv_b", 1, c)]
        for s in range(levels, 0, -1):
            for stem in (*(f"conv{d + 1}" for d in range(DEPTH)), "upconv"):
                params.append(parameter(f"level{s}_{stem}_f", 3, 3, c, c))
                params.append(parameter(f"level{s}_{stem}_b", 1, c))
            params.append(parameter(f"level{s}_residual_conv_f", 3, 3, c))
            params.append(parameter(f"level{s}_residual_conv_b", 1, 1))
            params.append(parameter(f"level{s}_img_up_f", 4, 4))
        layers = [{"name": "input_conv", "pad": np.ones(4)}, {"name": "relu", "pad": np.ones(4)}]
        return {"params": params, "layers": layers, "vars": [], "meta": {"scale": 2.0**levels}}

    return net


def matconvnet_output(net, levels, y):
    values = {p["name"]: torch.from_numpy(p["value"]) for p in net["params"]}

    def conv(stem, x):
        weight = values[f"{stem}_f"]
        weight = weight[..., None] if weight.ndim == 3 else weight
        bias = values[f"{stem}_b"].flatten()
        return F.conv2d(x, weight.permute(3, 2, 0, 1), bias, padding=1)

    def relu(x):
        return F.leaky_relu(x, 0.2)

    features = relu(conv("input_conv", y))
    for s in range(levels, 0, -1):
        for d in range(DEPTH):
            features = relu(conv(f"level{s}_conv{d + 1}", features))
        # [h, w, out, in]; the full result cut by a row below and a column at the right.
        weight = values[f"level{s}_upconv_f"].permute(3, 2, 0, 1)
        bias = values[f"level{s}_upconv_b"].flatten()
        features = relu(F.conv_transpose2d(features, weight, bias, 2)[..., :-1, :-1])
        image = values[f"level{s}_img_up_f"][None, None]
        y = F.conv_transpose2d(y, image, stride=2)[..., 1:-1, 1:-1]
        y = y + conv(f"level{s}_residual_conv", features)
    return y


@pytest.mark.parametrize(("levels", "scale"), [(1, 2), (2, 4), (2, 3), (2, 2)])
def test_port(load, image, program, assert_computes, through_luma, levels, scale):
    weights = port_weights(program, levels)
    model = load(weights, scale=scale)

    def run(y, _):
        return reduced(port_output(weights, levels, y), levels, scale)

    assert_computes(model, image, through_luma(image, scale, run))


@pytest.mark.parametrize(("levels", "scale"), [(1, 2), (2, 4), (2, 3)])
def test_matlab_file(load_matlab, image, matconvnet, assert_computes, through_luma, levels, scale):
    net = matconvnet(levels)
    model = load_matlab({"net": net}, scale=scale)

    def run(y, _):
        return reduced(matconvnet_output(net, levels, y), levels, scale)

    assert_computes(model, image, through_luma(image, scale, run))


def test_configuration(load, load_matlab, program, matconvnet):
    config = load(port_weights(program, 2)).config
    assert (config.scale, config.num_levels, config.bias) == (4, 2, False)
    assert (config.channels, config.depth) == (CHANNELS, DEPTH)
    config = load_matlab({"net": matconvnet(1)}).config
    assert (config.scale, config.num_levels, config.bias) == (2, 1, True)
    assert (config.channels, config.depth) == (CHANNELS, DEPTH)


def test_a_scale_above_the_levels_is_refused(load, program):
    with pytest.raises(UsageError, match="scale 3 needs 2 levels of doubling, got 1"):
        load(port_weights(program, 1), scale=3)


def test_published_size(program):
    weights = port_weights(program, 2, channels=64, depth=10)
    layout = recognise(weights)
    assert sum(w.numel() for w in layout.convert(weights).values()) == 870_112
    assert layout.config(weights)["depth"] == 10

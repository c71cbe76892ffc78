"""MemNet: two ports, with and without biases and weights of the blocks."""

import pytest
import torch
from torch.nn import functional as F

from hspan.weights.official import recognise

CHANNELS, BLOCKS, RECURSIONS = 6, 3, 2


def add_unit(program, key, inputs, outputs, side, bias):
    program.draw(f"{key}.bn.weight", inputs, spread=0.3, around=1.0)
    program.draw(f"{key}.bn.bias", inputs, spread=0.3)
    program.draw(f"{key}.bn.running_mean", inputs, spread=0.3)
    program.draw(f"{key}.bn.running_var", inputs, spread=0.3, around=1.0)
    program.weights[f"{key}.bn.num_batches_tracked"] = torch.tensor(7)
    program.add(f"{key}.conv", inputs, outputs, side)
    if not bias:
        del program.weights[f"{key}.conv.bias"]


def port_weights(program, bias, channels=CHANNELS, blocks=BLOCKS, recursions=RECURSIONS):
    add_unit(program, "feature_extractor", 1, channels, 3, bias)
    add_unit(program, "reconstructor", channels, 1, 3, bias)
    for b in range(blocks):
        stem = f"dense_memory.{b}"
        for r in range(recursions):
            for conv in ("relu_conv1", "relu_conv2"):
                key = f"{stem}.recursive_unit.{r}.{conv}"
                add_unit(program, key, channels, channels, 3, bias)
        inputs = (recursions + b + 1) * channels
        add_unit(program, f"{stem}.gate_unit", inputs, channels, 1, bias)
    if bias:
        program.draw("weights", 1, blocks, spread=0.2, around=0.5)
    return program.weights


def port_output(weights, y):
    def unit(key, x):
        names = ("running_mean", "running_var", "weight", "bias")
        x = F.batch_norm(x, *(weights[f"{key}.bn.{n}"] for n in names)).relu()
        weight = weights[f"{key}.conv.weight"]
        return F.conv2d(x, weight, weights.get(f"{key}.conv.bias"), padding=weight.shape[-1] // 2)

    features = unit("feature_extractor", y)
    memory, outputs = [features], []
    for b in range(BLOCKS):
        recent = []
        for r in range(RECURSIONS):
            stem = f"dense_memory.{b}.recursive_unit.{r}"
            inner = unit(f"{stem}.relu_conv2", unit(f"{stem}.relu_conv1", features))
            features = features + inner
            recent.append(features)
        features = unit(f"dense_memory.{b}.gate_unit", torch.cat(recent + memory, 1))
        memory.append(features)
        outputs.append(unit("reconstructor", features) + y)
    if "weights" not in weights:
        return outputs[-1]
    shares = weights["weights"][0]
    return sum(s * out for s, out in zip(shares, outputs, strict=True)) / shares.sum()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_ports(load, image, program, assert_computes, through_luma, bias, scale):
    weights = port_weights(program, bias)
    model = load({f"module.{k}": w for k, w in weights.items()}, scale=scale)
    config = model.config
    assert (config.num_blocks, config.num_recursions) == (BLOCKS, RECURSIONS)
    assert (config.bias, config.supervised, config.shared) == (bias, bias, False)
    assert_computes(model, image, through_luma(image, scale, lambda _, y: port_output(weights, y)))


def test_files_without_counters(load, program):
    weights = port_weights(program, True)
    kept = {k: w for k, w in weights.items() if not k.endswith("num_batches_tracked")}
    assert load(kept).head.norm.num_batches_tracked == 0


def test_published_size(program):
    weights = port_weights(program, True, 64, 6, 6)
    converted = recognise(weights).convert(weights)
    trained = {k: w for k, w in converted.items() if "running" not in k and "num_" not in k}
    assert sum(w.numel() for w in trained.values()) == 2_910_537
    assert {"blocks.5.norm2.5.bias", "blocks.0.conv1.0.weight", "tail.conv.bias"} <= set(trained)

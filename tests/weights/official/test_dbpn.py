"""Official DBPN checkpoints compute what the released program computes."""

import pytest
import torch
from torch.nn import functional as F

from hspan import WeightsError

CHANNELS, SHALLOW, STAGES = 4, 6, 3
KERNEL = {2: 6, 4: 8, 8: 12}


def build(program, scale, collected=STAGES):
    side = KERNEL[scale]

    def add(key, inputs, outputs, kernel, kind="conv"):
        program.add(f"{key}.{kind}", inputs, outputs, kernel, transposed=kind == "deconv")
        program.draw(f"{key}.act.weight", 1, around=0.3, spread=0.2)

    add("feat0", 3, SHALLOW, 3)
    add("feat1", SHALLOW, CHANNELS, 1)
    for n in range(1, STAGES + 1):
        for way, kinds, joined in (
            ("up", ("deconv", "conv", "deconv"), n - 1),
            ("down", ("conv", "deconv", "conv"), n),
        ):
            if way == "down" and n == STAGES:
                continue
            if joined > 1:
                add(f"{way}{n}.conv", joined * CHANNELS, CHANNELS, 1)
            for i, kind in enumerate(kinds):
                add(f"{way}{n}.{way}_conv{i + 1}", CHANNELS, CHANNELS, side, kind)
    program.add("output_conv.conv", collected * CHANNELS, 3)
    return {f"module.{key}": value for key, value in program.weights.items()}


def layer(program, key, x, **options):
    slope = program.weights[f"{key}.act.weight"]
    if f"{key}.deconv.weight" in program.weights:
        weight, bias = (program.weights[f"{key}.deconv.{part}"] for part in ("weight", "bias"))
        return F.prelu(F.conv_transpose2d(x, weight, bias, **options), slope)
    return F.prelu(program.conv(f"{key}.conv", x, **options), slope)


def unit(program, way, n, maps, scale):
    x = torch.cat(maps, dim=1)
    if len(maps) > 1:
        x = layer(program, f"{way}{n}.conv", x)
    options = {"stride": scale, "padding": 2}
    there = layer(program, f"{way}{n}.{way}_conv1", x, **options)
    back = layer(program, f"{way}{n}.{way}_conv2", there, **options)
    return there + layer(program, f"{way}{n}.{way}_conv3", back - x, **options)


def stages(program, low, scale):
    """Enlarged maps, the newest first, and the last one of the input's size."""
    high = [unit(program, "up", 1, [low], scale)]
    lows = []
    for n in range(1, STAGES):
        lows.insert(0, unit(program, "down", n, high, scale))
        high.insert(0, unit(program, "up", n + 1, lows, scale))
    return high, lows[0]


def output(program, x, scale, passes=None):
    low = layer(program, "feat1", layer(program, "feat0", x))
    if passes is None:
        return program.conv("output_conv.conv", torch.cat(stages(program, low, scale)[0], dim=1))
    collected = []
    for _ in range(passes):
        high, low = stages(program, low, scale)
        collected.append(high[0])
    return program.conv("output_conv.conv", torch.cat(collected, dim=1))


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_computes_what_the_program_computes(program, load, image, assert_computes, scale):
    model = load(build(program, scale))
    config = model.config
    assert (config.scale, config.num_stages, config.num_passes) == (scale, STAGES, None)
    assert_computes(model, image, output(program, image, scale))


@pytest.mark.parametrize("scale", [2, 4])
def test_recurrent_network(program, load, image, assert_computes, scale):
    model = load(build(program, scale, collected=2))
    assert model.config.num_passes == 2
    assert_computes(model, image, output(program, image, scale, passes=2))


def test_enlarged_input_on_request(program, load):
    weights = build(program, 2)
    flat = torch.full((1, 3, 5, 5), 0.25)
    with torch.no_grad():
        difference = load(weights, add_bicubic=True)(flat) - load(weights)(flat)
    torch.testing.assert_close(difference, torch.full((1, 3, 10, 10), 0.25))


def test_kernel_of_no_scale(program, load):
    weights = build(program, 2)
    weights["module.up1.up_conv1.deconv.weight"] = torch.zeros(CHANNELS, CHANNELS, 5, 5)
    with pytest.raises(WeightsError, match="no known scale: 5"):
        load(weights)

"""Official DRLN checkpoints compute what the released program computes."""

import pytest
import torch
from torch.nn import functional as F

from hspan import WeightsError

CHANNELS, REDUCTION = 4, 2
CASCADES = (1, 3, 2)  # modules b1; b2, b3, b4; b5, b6


def build(program, scale):
    program.add_shifts(1, keys=("sub_mean.shifter", "add_mean.shifter"))
    program.add("head", 3, CHANNELS)
    number = 0
    for length in CASCADES:
        for place in range(length):
            number += 1
            for i, width in enumerate((CHANNELS, 2 * CHANNELS, 4 * CHANNELS)):
                program.add(f"b{number}.r{i + 1}.body.0", width, width)
                program.add(f"b{number}.r{i + 1}.body.2", width, width)
                program.add(f"b{number}.ca.c{i + 1}.body.0", CHANNELS, CHANNELS // REDUCTION)
            program.add(f"b{number}.g.body.0", 8 * CHANNELS, CHANNELS, side=1)
            program.add(f"b{number}.ca.c4.body.0", 3 * CHANNELS // REDUCTION, CHANNELS)
            program.add(f"c{number}.body.0", (place + 2) * CHANNELS, CHANNELS)
    program.add_upsampler("upsample.up.body", scale, CHANNELS, stride=3)
    program.add("tail", CHANNELS, 3)
    return program.weights


def module(program, number, x):
    joined = x
    for i in (1, 2, 3):
        stem = f"b{number}.r{i}.body"
        inner = program.conv(f"{stem}.2", F.relu(program.conv(f"{stem}.0", joined)))
        joined = torch.cat([joined, F.relu(inner + joined)], dim=1)
    x = F.relu(program.conv(f"b{number}.g.body.0", joined))
    means = x.mean((2, 3), keepdim=True)
    levels = [
        F.relu(program.conv(f"b{number}.ca.c{i}.body.0", means, padding=d, dilation=d))
        for i, d in ((1, 3), (2, 5), (3, 7))
    ]
    return x * torch.sigmoid(program.conv(f"b{number}.ca.c4.body.0", torch.cat(levels, dim=1)))


def fusion(program, number, *maps):
    return F.relu(program.conv(f"c{number}.body.0", torch.cat(maps, dim=1)))


def output(program, x, value_range=255):
    c0 = program.conv("head", program.conv("sub_mean.shifter", x * value_range))
    o1 = fusion(program, 1, c0, module(program, 1, c0))
    a1 = o1 + c0
    b2 = module(program, 2, a1)
    b3 = module(program, 3, a1)  # not of c2's output, as in the figure
    o3 = fusion(program, 3, o1, b2, b3)
    b4 = module(program, 4, o3)
    o4 = fusion(program, 4, o1, b2, b3, b4)
    a2 = o4 + a1
    b5 = module(program, 5, a2)
    o5 = fusion(program, 5, o4, b5)
    o6 = fusion(program, 6, o4, b5, module(program, 6, o5))
    a3 = o6 + a2
    out = program.upsample("upsample.up.body", a3 + c0, activation=F.relu)
    return program.conv("add_mean.shifter", program.conv("tail", out)) / value_range


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_computes_what_the_program_computes(program, load, image, assert_computes, scale):
    model = load(build(program, scale))
    assert (model.config.scale, model.config.cascades) == (scale, CASCADES)
    assert_computes(model, image, output(program, image))


def test_range_comes_from_the_caller(program, load, image, assert_computes):
    model = load(build(program, 2), rgb_range=1)
    assert_computes(model, image, output(program, image, 1))


def test_a_convolution_outside_all_cascades(program, load):
    weights = build(program, 2)
    weights["c1.body.0.weight"] = torch.zeros(CHANNELS, 3 * CHANNELS, 3, 3)
    with pytest.raises(WeightsError, match=r"c1\.body\.0\.weight .* begins no cascade"):
        load(weights)

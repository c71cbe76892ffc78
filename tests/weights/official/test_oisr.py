"""Official OISR checkpoints compute what the released programs compute."""

import pytest
import torch
from torch.nn import functional as F

CHANNELS, BLOCKS = 6, 2
CONVS = {"rk2": 4, "lf": 4, "rk3": 3}
COEFFICIENTS = {"rk2": 1, "lf": 4, "rk3": 5}


def build(program, scale, value_range, method):
    program.add_shifts(value_range, drift=0.05)
    program.add("head.0", 3, CHANNELS)
    for b in range(BLOCKS):
        for i in range(1, CONVS[method] + 1):
            program.add(f"body.{b}.conv{i}", CHANNELS, CHANNELS)
            program.draw(f"body.{b}.relu{i}.weight", CHANNELS, around=0.3, spread=0.2)
        for i in range(1, COEFFICIENTS[method] + 1):
            program.draw(f"body.{b}.scale{i}", 1, around=0.7, spread=0.5)
    program.add(f"body.{BLOCKS}", CHANNELS, CHANNELS)
    program.add_upsampler("tail.0", scale, CHANNELS)
    program.add("tail.1", CHANNELS, 3)
    return program.weights


def block(program, b, y, method):
    def g(i, x):
        activated = F.prelu(x, program.weights[f"body.{b}.relu{i}.weight"])
        return program.conv(f"body.{b}.conv{i}", activated)

    s = [program.weights.get(f"body.{b}.scale{i}", torch.nan) for i in range(1, 6)]
    if method == "lf":
        one = s[0] * g(1, y)
        two = y + s[1] * g(2, one)
        three = one + s[2] * g(3, two)
        return two + s[3] * g(4, three)
    if method == "rk2":
        first = g(3, g(1, y))
        return y + s[0] * (first + g(4, g(2, y + first)))
    first = g(1, y)
    second = g(2, y + s[0] * first)
    third = g(3, y + s[1] * second + s[2] * first)
    return y + s[4] * (third + s[3] * second + first)


def output(program, x, value_range, method):
    shallow = deep = program.conv("head.0", program.conv("sub_mean", x * value_range))
    for b in range(BLOCKS):
        deep = block(program, b, deep, method)
    deep = program.conv(f"body.{BLOCKS}", deep) + shallow
    detail = program.conv("tail.1", program.upsample("tail.0", deep))
    return program.conv("add_mean", detail) / value_range


@pytest.mark.parametrize("method", ["rk2", "lf", "rk3"])
@pytest.mark.parametrize("value_range", [1, 255])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_computes_what_the_program_computes(
    program, load, image, assert_computes, scale, value_range, method
):
    model = load(build(program, scale, value_range, method))
    config = model.config
    assert (config.scale, config.method, config.num_blocks) == (scale, method, BLOCKS)
    assert_computes(model, image, output(program, image, value_range, method))

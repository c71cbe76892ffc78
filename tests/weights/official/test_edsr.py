"""Official EDSR checkpoints compute what the released program computes."""

import pytest
import torch
from torch.nn import functional as F

from hspan import WeightsError

CHANNELS, BLOCKS = 6, 3


def build(program, scale, value_range):
    program.add_shifts(value_range)
    program.add("head.0", 3, CHANNELS)
    for b in range(BLOCKS):
        program.add(f"body.{b}.body.0", CHANNELS, CHANNELS)
        program.add(f"body.{b}.body.2", CHANNELS, CHANNELS)
    program.add(f"body.{BLOCKS}", CHANNELS, CHANNELS)
    program.add_upsampler("tail.0", scale, CHANNELS)
    program.add("tail.1", CHANNELS, 3)
    return program.weights


def output(program, x, value_range, residual_scale=1.0):
    shallow = deep = program.conv("head.0", program.conv("sub_mean", x * value_range))
    for b in range(BLOCKS):
        inner = program.conv(f"body.{b}.body.2", F.relu(program.conv(f"body.{b}.body.0", deep)))
        deep = deep + residual_scale * inner
    deep = program.conv(f"body.{BLOCKS}", deep) + shallow
    detail = program.conv("tail.1", program.upsample("tail.0", deep))
    return program.conv("add_mean", detail) / value_range


@pytest.mark.parametrize("value_range", [1, 255])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_computes_what_the_program_computes(
    program, load, image, assert_computes, scale, value_range
):
    model = load(build(program, scale, value_range))
    assert model.config.scale == scale
    assert model.config.num_blocks == BLOCKS
    assert_computes(model, image, output(program, image, value_range))


def test_residual_scale_comes_from_the_caller(program, load, image, assert_computes):
    model = load(build(program, 2, 255), residual_scale=0.3)
    assert_computes(model, image, output(program, image, 255, residual_scale=0.3))


def test_another_mean_is_refused(program, load):
    weights = build(program, 2, 1)
    weights["add_mean.bias"] = torch.tensor([0.1, 0.2, 0.3])
    with pytest.raises(WeightsError, match=r"add_mean\.bias"):
        load(weights)


def test_what_is_missing_or_unknown_is_named(program, load):
    weights = build(program, 2, 1)
    del weights["body.1.body.2.bias"]
    with pytest.raises(WeightsError, match=r"1 missing \(body\.1\.conv2\.bias\)"):
        load(weights)
    weights = build(program, 2, 1) | {"body.7.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"1 unexpected \(body\.7\.weight\)"):
        load(weights)

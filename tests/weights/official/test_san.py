"""Official SAN checkpoints compute what the released program computes."""

import pytest
import torch
from torch.nn import functional as F

from hspan.errors import WeightsError

CHANNELS, GROUPS, BLOCKS, REDUCTION, INNER = 16, 2, 2, 4, 2


def build(program, scale, value_range):
    program.add_shifts(value_range, drift=0.05)
    program.add("head.0", 3, CHANNELS)
    for name, inputs, outputs in (
        ("g.0", CHANNELS, INNER),
        ("phi.0", CHANNELS, INNER),
        ("theta", CHANNELS, INNER),
        ("W", INNER, CHANNELS),
    ):
        program.add(f"non_local.non_local.{name}", inputs, outputs, 1)
    program.add("non_local.soca.conv_du.0", CHANNELS, CHANNELS // 8, 1)
    program.add("non_local.soca.conv_du.2", CHANNELS // 8, CHANNELS, 1)
    for g in range(GROUPS):
        for b in range(BLOCKS):
            program.add(f"RG.{g}.rcab.{b}.conv_first.0", CHANNELS, CHANNELS)
            program.add(f"RG.{g}.rcab.{b}.conv_first.2", CHANNELS, CHANNELS)
        program.add(f"RG.{g}.soca.conv_du.0", CHANNELS, CHANNELS // REDUCTION, 1)
        program.add(f"RG.{g}.soca.conv_du.2", CHANNELS // REDUCTION, CHANNELS, 1)
        program.add(f"RG.{g}.conv_last", CHANNELS, CHANNELS)
        program.draw(f"RG.{g}.gamma", 1)
    program.draw("gamma", 1)
    program.add("conv_last", CHANNELS, CHANNELS)
    program.add_upsampler("tail.0", scale, CHANNELS)
    program.add("tail.1", CHANNELS, 3)
    return program.weights


def covariance_gate(program, stem, x):
    gates = []
    for features in x.flatten(2):
        covariance = torch.cov(features, correction=0)
        norm = covariance.trace()
        y, z = covariance / norm, torch.eye(CHANNELS)
        for _ in range(5):  # coupled Newton-Schulz iteration: y goes to the root, z to its inverse
            step = (3 * torch.eye(CHANNELS) - z @ y) / 2
            y, z = y @ step, step @ z
        gates.append((y * norm.sqrt()).mean(dim=0))
    hidden = F.relu(program.conv(f"{stem}.0", torch.stack(gates)[..., None, None]))
    return x * torch.sigmoid(program.conv(f"{stem}.2", hidden))


def non_local(program, x):
    def embed(name):
        return program.conv(f"non_local.non_local.{name}", x)

    key, value = (F.max_pool2d(embed(n), 2).flatten(2) for n in ("phi.0", "g.0"))
    weights = torch.softmax(embed("theta").flatten(2).transpose(1, 2) @ key, dim=-1)
    mixed = (value @ weights.transpose(1, 2)).view(len(x), INNER, *x.shape[2:])
    return x + program.conv("non_local.non_local.W", mixed)


def by_region(program, x):
    out = torch.empty_like(x)
    middle = [side // 2 for side in x.shape[2:]]
    for rows in (slice(0, middle[0]), slice(middle[0], None)):
        for columns in (slice(0, middle[1]), slice(middle[1], None)):
            out[:, :, rows, columns] = non_local(program, x[:, :, rows, columns])
    return out


def output(program, x, value_range):
    shallow = program.conv("head.0", program.conv("sub_mean", x * value_range))
    source = deep = by_region(program, shallow)
    for g in range(GROUPS):
        inner = deep
        for b in range(BLOCKS):
            stem = f"RG.{g}.rcab.{b}.conv_first"
            inner = inner + program.conv(f"{stem}.2", F.relu(program.conv(f"{stem}.0", inner)))
        gated = covariance_gate(program, f"RG.{g}.soca.conv_du", inner)
        group = program.conv(f"RG.{g}.conv_last", gated) + deep
        deep = group + program.weights["gamma"] * source
    deep = by_region(program, deep) + shallow
    detail = program.conv("tail.1", program.upsample("tail.0", deep))
    return program.conv("add_mean", detail) / value_range


@pytest.mark.parametrize("value_range", [1, 255])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_computes_what_the_program_computes(
    program, load, image, assert_computes, scale, value_range
):
    model = load(build(program, scale, value_range))
    config = model.config
    assert (config.scale, config.num_groups, config.num_blocks) == (scale, GROUPS, BLOCKS)
    assert (config.channels, config.reduction, config.inner_reduction) == (16, 4, 8)
    assert_computes(model, image, output(program, image, value_range))


def test_weights_that_compute_nothing_are_kept(program, load):
    weights = build(program, 2, 1)
    unused = load(weights).unused
    assert unused.group_scales.tolist() == [weights[f"RG.{g}.gamma"].item() for g in range(GROUPS)]
    assert torch.equal(unused.expand.weight, weights["non_local.soca.conv_du.2.weight"])


def test_a_missing_scale_is_named(program, load):
    weights = build(program, 2, 1)
    del weights["RG.1.gamma"]
    with pytest.raises(WeightsError, match=r"RG\.1\.gamma"):
        load(weights)

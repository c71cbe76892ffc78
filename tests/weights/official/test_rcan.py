"""Official RCAN and HAN checkpoints compute what the released programs compute."""

import pytest
import torch
from torch.nn import functional as F

CHANNELS, GROUPS, BLOCKS, REDUCTION = 8, 2, 2, 2


def build(program, scale, value_range, attention=False):
    program.add_shifts(value_range, drift=0.05)
    program.add("head.0", 3, CHANNELS)
    for g in range(GROUPS):
        for b in range(BLOCKS):
            stem = f"body.{g}.body.{b}.body"
            program.add(f"{stem}.0", CHANNELS, CHANNELS)
            program.add(f"{stem}.2", CHANNELS, CHANNELS)
            program.add(f"{stem}.3.conv_du.0", CHANNELS, CHANNELS // REDUCTION, side=1)
            program.add(f"{stem}.3.conv_du.2", CHANNELS // REDUCTION, CHANNELS, side=1)
        program.add(f"body.{g}.body.{BLOCKS}", CHANNELS, CHANNELS)
    program.add(f"body.{GROUPS}", CHANNELS, CHANNELS)
    program.add_upsampler("tail.0", scale, CHANNELS)
    program.add("tail.1", CHANNELS, 3)
    if attention:
        program.draw("csa.gamma", 1)
        program.draw("csa.conv.weight", 1, 1, 3, 3, 3)
        program.draw("csa.conv.bias", 1)
        program.draw("la.gamma", 1)
        program.add("last_conv", (GROUPS + 1) * CHANNELS, CHANNELS)
        program.add("last", 2 * CHANNELS, CHANNELS)
    return program.weights


def group(program, g, x):
    inner = x
    for b in range(BLOCKS):
        stem = f"body.{g}.body.{b}.body"
        branch = program.conv(f"{stem}.2", F.relu(program.conv(f"{stem}.0", inner)))
        hidden = F.relu(program.conv(f"{stem}.3.conv_du.0", F.adaptive_avg_pool2d(branch, 1)))
        inner = inner + branch * torch.sigmoid(program.conv(f"{stem}.3.conv_du.2", hidden))
    return x + program.conv(f"body.{g}.body.{BLOCKS}", inner)


def layer_attention(program, maps):
    """The first of the maps is the newest one."""
    flat = torch.stack([m.flatten(1) for m in maps], dim=1)
    similarity = torch.einsum("bic,bjc->bij", flat, flat)
    weights = torch.softmax(-similarity, dim=2)  # least similar, most of it
    mixed = torch.einsum("bij,bjc->bic", weights, flat)
    out = flat + program.weights["la.gamma"] * mixed
    return out.reshape(len(flat), -1, *maps[0].shape[2:])


def channel_spatial_attention(program, x):
    weight, bias = program.weights["csa.conv.weight"], program.weights["csa.conv.bias"]
    gate = torch.sigmoid(F.conv3d(x[:, None], weight, bias, padding=1))[:, 0]
    return x + x * program.weights["csa.gamma"] * gate


def output(program, x, value_range, attention=False):
    shallow = deep = program.conv("head.0", program.conv("sub_mean", x * value_range))
    maps = []
    for g in range(GROUPS):
        deep = group(program, g, deep)
        maps.insert(0, deep)
    deep = program.conv(f"body.{GROUPS}", deep)
    if attention:
        mixed = program.conv("last_conv", layer_attention(program, [deep, *maps]))
        gated = channel_spatial_attention(program, deep)
        deep = program.conv("last", torch.cat([gated, mixed], dim=1))
    detail = program.conv("tail.1", program.upsample("tail.0", deep + shallow))
    return program.conv("add_mean", detail) / value_range


@pytest.mark.parametrize("attention", [False, True], ids=["rcan", "han"])
@pytest.mark.parametrize("value_range", [1, 255])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_computes_what_the_program_computes(
    program, load, image, assert_computes, scale, value_range, attention
):
    model = load(build(program, scale, value_range, attention))
    assert type(model).__name__ == ("HAN" if attention else "RCAN")
    config = model.config
    assert (config.scale, config.num_groups, config.num_blocks) == (scale, GROUPS, BLOCKS)
    assert (config.channels, config.reduction) == (CHANNELS, REDUCTION)
    assert_computes(model, image, output(program, image, value_range, attention))


def test_loading_leaves_the_weights_alone(program, load):
    weights = build(program, 2, 255)
    before = {key: value.clone() for key, value in weights.items()}
    load(weights)
    assert all(torch.equal(weights[key], value) for key, value in before.items())

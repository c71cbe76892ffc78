"""Official RNAN checkpoints compute what the released program computes."""

import pytest
import torch
from torch.nn import functional as F

CHANNELS, INNER, LOCAL = 8, 4, 2


def add_residual(program, stem):
    program.add(f"{stem}.body.0", CHANNELS, CHANNELS)
    program.add(f"{stem}.body.2", CHANNELS, CHANNELS)


def residual(program, stem, x):
    return x + program.conv(f"{stem}.body.2", F.relu(program.conv(f"{stem}.body.0", x)))


def add_block(program, stem, attends):
    for name in ("RA_RB1.0", "RA_TB.0.body.0", "RA_TB.0.body.1", "RA_tail.0", "RA_tail.1"):
        add_residual(program, f"{stem}.body.0.{name}")
    mask = f"{stem}.body.0.RA_MB.0"
    if attends:
        for name, inputs, outputs in (
            ("g", CHANNELS, INNER),
            ("W", INNER, CHANNELS),
            ("theta", CHANNELS, INNER),
            ("phi", CHANNELS, INNER),
        ):
            program.add(f"{mask}.MB_RB1.0.{name}", inputs, outputs, 1)
    for name in (f"MB_RB1.{int(attends)}", "MB_RB2.0", "MB_RB2.1", "MB_RB3.0"):
        add_residual(program, f"{mask}.{name}")
    program.add(f"{mask}.MB_Down.0", CHANNELS, CHANNELS)
    program.add(f"{mask}.MB_Up.0", CHANNELS, CHANNELS, 6, transposed=True)
    program.add(f"{mask}.MB_1x1conv.0", CHANNELS, CHANNELS, 1)
    program.add(f"{stem}.body.1", CHANNELS, CHANNELS)


def build(program, scale, value_range):
    program.add_shifts(value_range, drift=0.05)
    program.add("head.0", 3, CHANNELS)
    add_block(program, "body_nl_low.0", attends=True)
    for m in range(LOCAL):
        add_block(program, f"body.{m}", attends=False)
    program.add(f"body.{LOCAL}", CHANNELS, CHANNELS)
    add_block(program, "body_nl_high.0", attends=True)
    program.add_upsampler("tail.0", scale, CHANNELS)
    program.add("tail.1", CHANNELS, 3)
    return program.weights


def non_local(program, stem, x):
    def embed(name):
        return program.conv(f"{stem}.{name}", x).flatten(2)

    scores = embed("theta").transpose(1, 2) @ embed("phi")  # [B, queries, keys]
    weights = torch.softmax(scores, dim=1)  # over the queries
    mixed = (weights @ embed("g").transpose(1, 2)).transpose(1, 2)
    return x + program.conv(f"{stem}.W", mixed.reshape(len(x), INNER, *x.shape[2:]))


def block(program, stem, x):
    inside, mask = f"{stem}.body.0", f"{stem}.body.0.RA_MB.0"
    x = residual(program, f"{inside}.RA_RB1.0", x)
    trunk = residual(program, f"{inside}.RA_TB.0.body.0", x)
    trunk = residual(program, f"{inside}.RA_TB.0.body.1", trunk)
    full, first = x, 0
    if f"{mask}.MB_RB1.0.g.weight" in program.weights:
        full, first = non_local(program, f"{mask}.MB_RB1.0", x), 1
    full = residual(program, f"{mask}.MB_RB1.{first}", full)
    half = program.conv(f"{mask}.MB_Down.0", full, stride=2, padding=1)
    for i in range(2):
        half = residual(program, f"{mask}.MB_RB2.{i}", half)
    weight, bias = (program.weights[f"{mask}.MB_Up.0.{p}"] for p in ("weight", "bias"))
    full = full + F.conv_transpose2d(half, weight, bias, stride=2, padding=2)
    full = residual(program, f"{mask}.MB_RB3.0", full)
    x = x + trunk * torch.sigmoid(program.conv(f"{mask}.MB_1x1conv.0", full))
    for i in range(2):
        x = residual(program, f"{inside}.RA_tail.{i}", x)
    return program.conv(f"{stem}.body.1", x)


def output(program, x, value_range):
    shallow = program.conv("head.0", program.conv("sub_mean", x * value_range))
    deep = block(program, "body_nl_low.0", shallow)
    for m in range(LOCAL):
        deep = block(program, f"body.{m}", deep)
    deep = block(program, "body_nl_high.0", program.conv(f"body.{LOCAL}", deep)) + shallow
    detail = program.conv("tail.1", program.upsample("tail.0", deep))
    return program.conv("add_mean", detail) / value_range


@pytest.mark.parametrize("value_range", [1, 255])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_computes_what_the_program_computes(program, load, assert_computes, scale, value_range):
    weights = build(program, scale, value_range)
    if value_range == 255:  # keeps similarities small enough for float32
        weights["head.0.weight"] /= 100
    model = load(weights)
    config = model.config
    assert (config.scale, config.num_blocks) == (scale, LOCAL + 2)
    assert (config.channels, config.inner_reduction) == (CHANNELS, 2)
    image = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(1))
    assert_computes(model, image, output(program, image, value_range))


def test_odd_sizes_are_made_even(program, load, image):
    model = load(build(program, 2, 1))
    even = F.pad(image, (0, 1, 0, 1), mode="replicate")
    with torch.no_grad():
        assert torch.equal(model(image), model(even)[..., :-2, :-2])

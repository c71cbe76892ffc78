"""Official CSNLN checkpoints compute what the released program computes.

Its cross-scale attention is written down as the program has it: with patches cut out, a convolution
whose kernels are patches, and a transposed one.
"""

import pytest
import torch
from torch.nn import functional as F

CHANNELS, INNER, DEPTH = 8, 4, 2
STEP = {2: 2, 3: 3, 4: 2}
SIDE = {2: (6, 2), 3: (9, 3), 4: (8, 2)}  # and padding, of a convolution from that ratio to 1
SEM = "SEM.multi_source_projection"


def build(program, scale, value_range):
    program.add_shifts(value_range)

    def layer(key, inputs, outputs, side=3, transposed=False):
        program.add(f"{key}.0", inputs, outputs, side, transposed)
        program.draw(f"{key}.1.weight", 1)

    layer("head.0", 3, CHANNELS)
    layer("head.1", CHANNELS, CHANNELS)
    side = SIDE[STEP[scale]][0]
    for sources in (SEM, f"{SEM}_2")[: 2 if scale == 4 else 1]:
        for name in ("conv_match_1", "conv_match_2"):
            layer(f"{sources}.up_attention.{name}", CHANNELS, INNER, 1)
        layer(f"{sources}.up_attention.conv_assembly", CHANNELS, CHANNELS, 1)
        program.weights[f"{sources}.up_attention.escape_NaN"] = torch.tensor([1e-4])
        for name in ("conv_match1", "conv_match2"):
            layer(f"{sources}.down_attention.{name}", CHANNELS, INNER, 1)
        layer(f"{sources}.down_attention.conv_assembly", CHANNELS, CHANNELS, 1)
        layer(f"{sources}.upsample", CHANNELS, CHANNELS, side, transposed=True)
        program.add(f"{sources}.encoder.body.0", CHANNELS, CHANNELS)
        program.draw(f"{sources}.encoder.body.1.weight", 1)
        program.add(f"{sources}.encoder.body.2", CHANNELS, CHANNELS)
    layer("SEM.down_sample_1", CHANNELS, CHANNELS, side)
    layer("SEM.error_encode", CHANNELS, CHANNELS, side, transposed=True)
    if scale == 4:
        layer("SEM.down_sample_3", CHANNELS, CHANNELS, 8)
        layer("SEM.down_sample_4", CHANNELS, CHANNELS, 8)
        layer("SEM.error_encode_2", CHANNELS, CHANNELS, 8, transposed=True)
    else:
        layer("SEM.down_sample_2", CHANNELS, CHANNELS, side)
    layer("SEM.post_conv", CHANNELS, CHANNELS)
    program.add("tail.0", DEPTH * CHANNELS, 3)
    return program.weights


def layer(program, key, x, ratio=None, up=False):
    """A convolution and its PReLU."""
    slope = program.weights[f"{key}.1.weight"]
    if ratio is None:
        return F.prelu(program.conv(f"{key}.0", x), slope)
    options = {"stride": ratio, "padding": SIDE[ratio][1]}
    if not up:
        return F.prelu(program.conv(f"{key}.0", x, **options), slope)
    weight, bias = (program.weights[f"{key}.0.{p}"] for p in ("weight", "bias"))
    return F.prelu(F.conv_transpose2d(x, weight, bias, **options), slope)


def in_scale(program, stem, x):
    query, key, value = (
        layer(program, f"{stem}.{n}", x).flatten(2)
        for n in ("conv_match1", "conv_match2", "conv_assembly")
    )
    weights = torch.softmax(query.transpose(1, 2) @ key, dim=2)
    return (value @ weights.transpose(1, 2)).view_as(x)


def cross_scale(program, stem, x, s):
    query = layer(program, f"{stem}.conv_match_1", x)
    smaller = F.interpolate(x, scale_factor=1 / s, mode="bilinear")
    key = layer(program, f"{stem}.conv_match_2", smaller)
    value = layer(program, f"{stem}.conv_assembly", x)
    images = []
    for q, k, v in zip(query, key, value, strict=True):
        small = F.unfold(k[None], 3, padding=1)[0].T.reshape(-1, INNER, 3, 3)
        large = F.unfold(v[None], 3 * s, padding=s, stride=s)[0].T
        large = large.reshape(-1, CHANNELS, 3 * s, 3 * s)
        norm = small.flatten(1).norm(dim=1).clamp_min(1e-4)
        scores = F.conv2d(q[None], small / norm[:, None, None, None], padding=1)
        weights = torch.softmax(10 * scores, dim=1)
        images.append(F.conv_transpose2d(weights, large, stride=s, padding=s) / 6)
    return torch.cat(images)


def sources(program, stem, x, s):
    within = layer(
        program, f"{stem}.upsample", in_scale(program, f"{stem}.down_attention", x), s, True
    )
    error = cross_scale(program, f"{stem}.up_attention", x, s) - within
    slope = program.weights[f"{stem}.encoder.body.1.weight"]
    hidden = F.prelu(program.conv(f"{stem}.encoder.body.0", error), slope)
    return within + error + program.conv(f"{stem}.encoder.body.2", hidden)


def output(program, x, scale, value_range):
    s = STEP[scale]
    x = layer(program, "head.0", program.conv("sub_mean", x * value_range))
    x = layer(program, "head.1", x)
    found = []
    for _ in range(DEPTH):
        up = sources(program, SEM, x, s)
        down = layer(program, "SEM.down_sample_1", up, s)
        estimate = up + layer(program, "SEM.error_encode", x - down, s, up=True)
        last = "SEM.down_sample_2"
        if scale == 4:
            up = sources(program, f"{SEM}_2", estimate, s)
            down = layer(program, "SEM.down_sample_3", up, 4)
            estimate = up + layer(program, "SEM.error_encode_2", x - down, 4, up=True)
            last = "SEM.down_sample_4"
        x = layer(program, "SEM.post_conv", layer(program, last, estimate, scale))
        found.append(estimate)
    detail = program.conv("tail.0", torch.cat(found, dim=1))
    return program.conv("add_mean", detail) / value_range


@pytest.mark.parametrize("value_range", [1, 255])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_computes_what_the_program_computes(program, load, assert_computes, scale, value_range):
    weights = build(program, scale, value_range)
    if value_range == 255:  # keeps similarities small enough for float32
        weights["head.0.0.weight"] /= 100
    model = load(weights)
    config = model.config
    assert (config.scale, config.depth, config.channels, config.reduction) == (scale, 2, 8, 2)
    image = torch.rand(2, 3, 12, 6, generator=torch.Generator().manual_seed(1))
    assert_computes(model, image, output(program, image, scale, value_range))


@pytest.mark.parametrize("scale", [2, 3])
def test_sizes_are_made_multiples(program, load, image, scale):
    model = load(build(program, scale, 1))
    missing = {2: (1, 1), 3: (2, 0)}[scale]  # of 7 columns and 9 rows
    padded = F.pad(image, (0, missing[0], 0, missing[1]), mode="replicate")
    with torch.no_grad():
        assert torch.equal(model(image), model(padded)[..., : 9 * scale, : 7 * scale])

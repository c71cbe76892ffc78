"""Official SwinIR checkpoints compute what the released program computes.

Attention is written down here without windows: every pair of positions of the padded image, after
the shift, sees one another if they are in the same window and none of the two came around an edge.
"""

import pytest
import torch
from torch.nn import functional as F

CHANNELS, HEADS, WINDOW, DEPTHS = 6, 2, 4, (2, 1)
MEAN = torch.tensor([0.4488, 0.4371, 0.4040]).view(3, 1, 1)


def build(program, scale, direct):
    def norm(key):
        program.draw(f"{key}.weight", CHANNELS, around=1.0, spread=0.5)
        program.draw(f"{key}.bias", CHANNELS, spread=0.5)

    def linear(key, inputs, outputs):
        program.draw(f"{key}.weight", outputs, inputs, spread=1.5 / inputs**0.5)
        program.draw(f"{key}.bias", outputs, spread=0.3)

    program.add("conv_first", 3, CHANNELS)
    norm("patch_embed.norm")
    for g, depth in enumerate(DEPTHS):
        for b in range(depth):
            stem = f"layers.{g}.residual_group.blocks.{b}"
            norm(f"{stem}.norm1")
            table = f"{stem}.attn.relative_position_bias_table"
            program.draw(table, (2 * WINDOW - 1) ** 2, HEADS)
            program.weights[f"{stem}.attn.relative_position_index"] = torch.zeros(16, 16).long()
            if b % 2:
                program.weights[f"{stem}.attn_mask"] = torch.zeros(9, 16, 16)
            linear(f"{stem}.attn.qkv", CHANNELS, 3 * CHANNELS)
            linear(f"{stem}.attn.proj", CHANNELS, CHANNELS)
            norm(f"{stem}.norm2")
            linear(f"{stem}.mlp.fc1", CHANNELS, 3 * CHANNELS)
            linear(f"{stem}.mlp.fc2", 3 * CHANNELS, CHANNELS)
        program.add(f"layers.{g}.conv", CHANNELS, CHANNELS)
    norm("norm")
    program.add("conv_after_body", CHANNELS, CHANNELS)
    if direct:
        program.add("upsample.0", CHANNELS, 3 * scale**2)
    else:
        program.add("conv_before_upsample.0", CHANNELS, 64)
        program.add_upsampler("upsample", scale, 64)
        program.add("conv_last", 64, 3)
    return program.weights


def attention(program, stem, x, shift):
    """x: [B, H, W, C]; positions keep their places, their windows move."""
    batch, height, width, _ = x.shape
    weights = program.weights
    qkv = F.linear(x, weights[f"{stem}.qkv.weight"], weights[f"{stem}.qkv.bias"])
    query, key, value = qkv.view(batch, height * width, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    row, column = (row - shift).flatten() % height, (column - shift).flatten() % width
    apart = (row // WINDOW)[:, None] != row // WINDOW
    apart |= (column // WINDOW)[:, None] != column // WINDOW
    around = 3 * (row >= height - shift).long() + (column >= width - shift).long()
    down, right = (row[:, None] - row), (column[:, None] - column)
    index = (down + WINDOW - 1) * (2 * WINDOW - 1) + right + WINDOW - 1
    table = weights[f"{stem}.relative_position_bias_table"]
    scores = query @ key.transpose(2, 3) / (CHANNELS // HEADS) ** 0.5
    scores = scores + table[index.clamp(0, len(table) - 1)].permute(2, 0, 1)
    scores = scores - 100 * (around[:, None] != around)
    mixed = scores.masked_fill(apart, -torch.inf).softmax(-1) @ value
    mixed = mixed.transpose(1, 2).reshape(x.shape)
    return F.linear(mixed, weights[f"{stem}.proj.weight"], weights[f"{stem}.proj.bias"])


def output(program, x, scale):
    weights = program.weights

    def norm(key, t):
        return F.layer_norm(t, (CHANNELS,), weights[f"{key}.weight"], weights[f"{key}.bias"])

    def linear(key, t):
        return F.linear(t, weights[f"{key}.weight"], weights[f"{key}.bias"])

    height, width = x.shape[2:]
    x = F.pad(x, (0, -width % WINDOW, 0, -height % WINDOW), mode="reflect") - MEAN
    shallow = program.conv("conv_first", x)
    deep = norm("patch_embed.norm", shallow.permute(0, 2, 3, 1))
    for g, depth in enumerate(DEPTHS):
        inner = deep
        for b in range(depth):
            stem = f"layers.{g}.residual_group.blocks.{b}"
            shift = WINDOW // 2 if b % 2 else 0
            inner = inner + attention(program, f"{stem}.attn", norm(f"{stem}.norm1", inner), shift)
            hidden = F.gelu(linear(f"{stem}.mlp.fc1", norm(f"{stem}.norm2", inner)))
            inner = inner + linear(f"{stem}.mlp.fc2", hidden)
        conv = program.conv(f"layers.{g}.conv", inner.permute(0, 3, 1, 2))
        deep = deep + conv.permute(0, 2, 3, 1)
    deep = program.conv("conv_after_body", norm("norm", deep).permute(0, 3, 1, 2)) + shallow
    if "conv_last.weight" in weights:
        deep = F.leaky_relu(program.conv("conv_before_upsample.0", deep), 0.01)
        out = program.conv("conv_last", program.upsample("upsample", deep))
    else:
        out = F.pixel_shuffle(program.conv("upsample.0", deep), scale)
    return (out + MEAN)[:, :, : height * scale, : width * scale]


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_computes_what_the_program_computes(program, load, image, assert_computes, scale, direct):
    model = load(build(program, scale, direct))
    config = model.config
    assert (config.scale, config.depths, config.num_heads) == (scale, DEPTHS, HEADS)
    assert (config.window, config.expansion) == (WINDOW, 3)
    assert_computes(model, image, output(program, image, scale))


@pytest.mark.parametrize("size", [(4, 4), (8, 12), (5, 16)])
def test_whole_windows_and_edges(program, load, assert_computes, size):
    model = load(build(program, 2, direct=True))
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))
    assert_computes(model, image, output(program, image, 2))


@pytest.mark.parametrize("size", [(9, 7), (8, 4)])
def test_padding_of_the_test_program(program, load, assert_computes, size):
    model = load(build(program, 2, direct=True), padding="symmetric")
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(2))
    height, width = size
    tall, wide = (height // WINDOW + 1) * WINDOW, (width // WINDOW + 1) * WINDOW
    padded = torch.cat([image, image.flip(2)], dim=2)[:, :, :tall]
    padded = torch.cat([padded, padded.flip(3)], dim=3)[..., :wide]
    expected = output(program, padded, 2)[..., : 2 * height, : 2 * width]
    assert_computes(model, image, expected)

"""Official RDN checkpoints compute what the released program computes."""

import pytest
import torch
from torch.nn import functional as F

CHANNELS, GROWTH, BLOCKS, LAYERS = 6, 4, 2, 3


def build(program, scale):
    program.add("SFENet1", 3, CHANNELS)
    program.add("SFENet2", CHANNELS, CHANNELS)
    for d in range(BLOCKS):
        for c in range(LAYERS):
            program.add(f"RDBs.{d}.convs.{c}.conv.0", CHANNELS + c * GROWTH, GROWTH)
        program.add(f"RDBs.{d}.LFF", CHANNELS + LAYERS * GROWTH, CHANNELS, side=1)
    program.add("GFF.0", BLOCKS * CHANNELS, CHANNELS, side=1)
    program.add("GFF.1", CHANNELS, CHANNELS)
    step = 3 if scale == 3 else 2
    program.add("UPNet.0", CHANNELS, step * step * GROWTH)
    if scale == 4:
        program.add("UPNet.2", GROWTH, 4 * GROWTH)
    program.add("UPNet.4" if scale == 4 else "UPNet.2", GROWTH, 3)
    return program.weights


def output(program, x, value_range):
    shallow = program.conv("SFENet1", x * value_range)
    deep, outputs = program.conv("SFENet2", shallow), []
    for d in range(BLOCKS):
        seen = [deep]
        for c in range(LAYERS):
            joined = torch.cat(seen, dim=1)
            seen.append(F.relu(program.conv(f"RDBs.{d}.convs.{c}.conv.0", joined)))
        deep = deep + program.conv(f"RDBs.{d}.LFF", torch.cat(seen, dim=1))
        outputs.append(deep)
    fused = program.conv("GFF.1", program.conv("GFF.0", torch.cat(outputs, dim=1))) + shallow
    first = program.conv("UPNet.0", fused)
    out = F.pixel_shuffle(first, round((first.shape[1] / GROWTH) ** 0.5))
    if "UPNet.4.weight" in program.weights:
        out = program.conv("UPNet.4", F.pixel_shuffle(program.conv("UPNet.2", out), 2))
    else:
        out = program.conv("UPNet.2", out)
    return out / value_range


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_computes_what_the_program_computes(program, load, image, assert_computes, scale):
    model = load(build(program, scale))
    config = model.config
    assert (config.scale, config.channels, config.growth) == (scale, CHANNELS, GROWTH)
    assert (config.num_blocks, config.num_layers) == (BLOCKS, LAYERS)
    assert_computes(model, image, output(program, image, 255))


def test_range_comes_from_the_caller(program, load, image, assert_computes):
    model = load(build(program, 2), rgb_range=1)
    assert_computes(model, image, output(program, image, 1))

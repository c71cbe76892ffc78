"""SRCNN: two ports, and the authors' MATLAB files."""

import pytest
import torch
from torch.nn import functional as F

from hspan.errors import WeightsError

CHANNELS, SIDES = (5, 4), (9, 5, 3)
PORTS = {
    "conv": ("conv1", "conv2", "conv3"),
    "features": ("features.0", "map.0", "reconstruction"),
}


def port_weights(program, names):
    sizes = zip(names, (1, *CHANNELS), (*CHANNELS, 1), SIDES, strict=True)
    for name, inputs, outputs, side in sizes:
        program.add(name, inputs, outputs, side)
    return program.weights


def port_output(program, names, y):
    first, second, third = names
    return program.conv(third, program.conv(second, program.conv(first, y).relu()).relu())


@pytest.fixture
def matlab(program):
    """Filters read column by column; channels first."""
    weights = port_weights(program, PORTS["conv"])
    columns = [weights[f"conv{i}.weight"].transpose(2, 3).flatten(2) for i in (1, 2, 3)]
    first, second, third = (w.permute(1, 2, 0).double().numpy() for w in columns)
    biases = {f"biases_conv{i}": weights[f"conv{i}.bias"][:, None].numpy() for i in (1, 2, 3)}
    filters = {"weights_conv1": first[0], "weights_conv2": second, "weights_conv3": third[..., 0]}
    return filters | biases


def matlab_output(variables, imfilter, y):
    maps = [y]
    for i in (1, 2, 3):
        filters = variables[f"weights_conv{i}"]
        filters = filters[None] if i == 1 else filters[..., None] if i == 3 else filters
        side = SIDES[i - 1]
        maps = [
            sum(
                imfilter(x, filters[j, :, o].reshape(side, side, order="F"))
                for j, x in enumerate(maps)
            )
            + float(variables[f"biases_conv{i}"][o, 0])
            for o in range(filters.shape[2])
        ]
        maps = [m.relu() for m in maps] if i < 3 else maps
    return maps[0]


@pytest.mark.parametrize("names", PORTS.values(), ids=PORTS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_ports(load, image, program, assert_computes, through_luma, names, scale):
    model = load(port_weights(program, names), scale=scale)
    expected = through_luma(image, scale, lambda _, y: port_output(program, names, y))
    assert_computes(model, image, expected)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_matlab_file(load_matlab, image, matlab, imfilter, assert_computes, through_luma, scale):
    model = load_matlab(matlab, scale=scale)
    expected = through_luma(image, scale, lambda _, y: matlab_output(matlab, imfilter, y))
    assert_computes(model, image, expected)


def test_configuration(load, load_matlab, program, matlab):
    config = load_matlab(matlab, scale=3).config
    assert (config.scale, config.padding) == (3, "replicate")
    assert (config.channels, config.kernel_sizes) == (CHANNELS, SIDES)
    config = load(program.weights, scale=4).config
    assert (config.scale, config.padding) == (4, "zeros")
    assert (config.channels, config.kernel_sizes) == (CHANNELS, SIDES)


def test_a_missing_weight_is_named(load_matlab, matlab):
    del matlab["weights_conv2"]
    with pytest.raises(WeightsError, match="official SRCNN checkpoint without weights_conv2"):
        load_matlab(matlab)


def test_zeros_lie_outside_the_image_in_ports(load, image, program):
    names = PORTS["conv"]
    model = load(port_weights(program, names))
    y = torch.rand(1, 1, 6, 6)
    with torch.no_grad():
        expected = port_output(program, names, F.pad(y, (9,) * 4))
        assert not torch.allclose(model.body(y), expected[..., 9:-9, 9:-9])
        assert torch.allclose(model.body(y), port_output(program, names, y), atol=1e-6)

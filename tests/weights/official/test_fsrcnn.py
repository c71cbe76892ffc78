"""FSRCNN: two ports with either kind of slopes, and the authors' MATLAB files."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hspan.weights.official import recognise

WIDE, NARROW, MAPPINGS = 6, 4, 2


def names(port, mappings=MAPPINGS):
    """A port's names of all layers but the last, and of the last."""
    if port == "parts":
        inner = [f"mid_part.{2 * i}" for i in range(mappings + 2)]
        return ["first_part.0", *inner], "last_part"
    inner = [f"map.{2 * i}" for i in range(mappings)]
    return ["feature_extraction.0", "shrink.0", *inner, "expand.0"], "deconv"


def following(name):
    stem, _, number = name.rpartition(".")
    return f"{stem}.{int(number) + 1}"


def port_weights(program, port, slopes, wide=WIDE, narrow=NARROW, mappings=MAPPINGS):
    layers, last = names(port, mappings)
    widths = [1, wide, *[narrow] * (mappings + 1), wide]
    sides = [5, 1, *[3] * mappings, 1]
    for layer, inputs, outputs, side in zip(layers, widths[:-1], widths[1:], sides, strict=True):
        program.add(layer, inputs, outputs, side)
        program.draw(
            f"{following(layer)}.weight", outputs if slopes == "channel" else 1, spread=0.3
        )
    program.add(last, wide, 1, 9, transposed=True)
    return program.weights


def port_output(program, port, scale, y):
    layers, last = names(port)
    for layer in layers:
        y = F.prelu(program.conv(layer, y), program.weights[f"{following(layer)}.weight"])
    weight, bias = program.weights[f"{last}.weight"], program.weights[f"{last}.bias"]
    return F.conv_transpose2d(y, weight, bias, scale, padding=4, output_padding=scale - 1)


@pytest.fixture
def matlab(program, cells):
    """Filters read column by column, [in, k², out], the last [1, k², in]; an empty last slope."""
    weights = port_weights(program, "parts", "layer")
    layers, last = names("parts")
    columns = [weights[f"{k}.weight"].transpose(2, 3).flatten(2) for k in layers]
    filters = [w.permute(1, 2, 0).double().numpy() for w in columns]
    final = weights[f"{last}.weight"][:, 0].transpose(1, 2).flatten(1).T[None].double().numpy()
    slopes = [weights[f"{following(k)}.weight"][:, None].numpy() for k in layers]
    return {
        "weights_conv": cells([*filters, final]),
        "biases_conv": cells([weights[f"{k}.bias"][:, None].numpy() for k in [*layers, last]]),
        "prelu_conv": cells([*slopes, np.empty((1, 0))]),
    }


def square(column):
    side = round(len(column) ** 0.5)
    return column.reshape(side, side, order="F")


def enlarged(x, weight, scale):
    """The authors' deconv: every pixel of the image and of a border of one adds a filter."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    height, width = x.shape[2:]
    out = torch.zeros(*x.shape[:2], height * scale + 8, width * scale + 8)
    weight = torch.from_numpy(weight).float()
    for i in range(height):
        for j in range(width):
            place = (..., slice(i * scale, i * scale + 9), slice(j * scale, j * scale + 9))
            out[place] += x[..., i, j, None, None] * weight
    top = 4 + scale
    return out[..., top : top + (height - 2) * scale, top : top + (width - 2) * scale]


def matlab_output(variables, imfilter, scale, y):
    weights, biases, slopes = (
        variables[k][:, 0] for k in ("weights_conv", "biases_conv", "prelu_conv")
    )
    maps = [y]
    for filters, bias, slope in zip(weights[:-1], biases, slopes, strict=False):
        out = []
        for o in range(filters.shape[2]):
            total = sum(imfilter(x, square(filters[j, :, o])) for j, x in enumerate(maps))
            total = total + float(bias[o, 0])
            out.append(total.clamp(min=0) + float(slope[0, 0]) * total.clamp(max=0))
        maps = out
    last = weights[-1]
    total = sum(enlarged(x, square(last[0, :, j]), scale) for j, x in enumerate(maps))
    return total + float(biases[-1][0, 0])


@pytest.mark.parametrize("port", ["parts", "named"])
@pytest.mark.parametrize("slopes", ["layer", "channel"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_ports(load, image, program, assert_computes, through_luma, port, slopes, scale):
    model = load(port_weights(program, port, slopes), scale=scale)
    assert model.config.channel_slopes == (slopes == "channel")
    expected = through_luma(image, scale, lambda y, _: port_output(program, port, scale, y))
    assert_computes(model, image, expected)


@pytest.mark.parametrize("scale", [2, 4])
def test_matlab_file(load_matlab, image, matlab, imfilter, assert_computes, through_luma, scale):
    model = load_matlab(matlab, scale=scale)
    run = lambda y, _: matlab_output(matlab, imfilter, scale, y)  # noqa: E731
    assert_computes(model, image, through_luma(image, scale, run))


def test_matlab_file_at_3_is_moved_by_a_pixel(load_matlab, image, matlab, imfilter, through_luma):
    """As the authors' demo moves it before scoring; only luma, not the enlarged colours."""
    model = load_matlab(matlab, scale=3)

    def run(y, _):
        out = matlab_output(matlab, imfilter, 3, y)
        return torch.roll(out, (1, 1), (2, 3))

    expected = through_luma(image, 3, run)
    with torch.no_grad():
        output = model(image)
    error = (output - expected)[..., 1:, 1:].abs().max()
    assert error <= 1e-5 * (expected.max() - expected.min())


@pytest.mark.parametrize(("slopes", "count"), [("layer", 12_644), ("channel", 12_809)])
def test_published_size(program, slopes, count):
    weights = port_weights(program, "parts", slopes, 56, 12, 4)
    converted = recognise(weights).convert(weights)
    assert sum(w.numel() for w in converted.values()) == count
    assert {"mapping.3.1.weight", "expand.0.bias", "deconv.bias"} <= set(converted)

"""VDSR: the usual port, the authors' MATLAB file, and their published scores."""

import pytest
import torch
from torch.nn import functional as F

from hspan.errors import UsageError, WeightsError
from hspan.evaluation import evaluate
from hspan.weights import load_model
from hspan.weights.official import recognise

CHANNELS, INNER = 6, 3


def port_weights(program, channels=CHANNELS, inner=INNER):
    program.add("input", 1, channels)
    for i in range(inner):
        program.add(f"residual_layer.{i}.conv", channels, channels)
    program.add("output", channels, 1)
    return {key: w for key, w in program.weights.items() if key.endswith("weight")}


def port_output(weights, y):
    keys = ["input", *(f"residual_layer.{i}.conv" for i in range(INNER)), "output"]
    out = y
    for key in keys:
        out = F.conv2d(out if key == "input" else out.relu(), weights[f"{key}.weight"], padding=1)
    return y + out


@pytest.fixture
def matlab(program, cells):
    """The authors' cells: MatConvNet's order; the last filter has lost its last dimension."""
    port_weights(program)
    convs = [k.removesuffix(".weight") for k in program.weights if k.endswith("weight")]
    weights = [program.weights[f"{k}.weight"].permute(2, 3, 1, 0).numpy() for k in convs]
    biases = [program.weights[f"{k}.bias"][:, None].numpy() for k in convs]
    return {"weight": cells([*weights[:-1], weights[-1][..., 0]]), "bias": cells(biases)}


def matlab_output(model, y):
    """Correlation with a zero border, written out as a sum over shifts."""
    maps = y
    for i, (weight, bias) in enumerate(
        zip(model["weight"][:, 0], model["bias"][:, 0], strict=True)
    ):
        weight = torch.from_numpy(weight.reshape(3, 3, weight.shape[2], -1))
        height, width = maps.shape[2:]
        padded = F.pad(maps.relu() if i else maps, (1, 1, 1, 1))
        maps = torch.from_numpy(bias).view(1, -1, 1, 1)
        for row in range(3):
            for column in range(3):
                part = padded[..., row : row + height, column : column + width]
                maps = maps + torch.einsum("bchw,co->bohw", part, weight[row, column])
    return maps + y


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_port(load, image, program, assert_computes, through_luma, scale):
    weights = port_weights(program)
    model = load({"epoch": 50, "model": weights}, scale=scale)
    assert_computes(model, image, through_luma(image, scale, lambda _, y: port_output(weights, y)))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_matlab_file(load_matlab, image, matlab, assert_computes, through_luma, scale):
    model = load_matlab({"model": matlab}, scale=scale)
    assert_computes(model, image, through_luma(image, scale, lambda _, y: matlab_output(matlab, y)))


def test_configuration(load, load_matlab, program, matlab):
    config = load(port_weights(program)).config
    assert (config.scale, config.channels, config.num_layers, config.bias) == (2, 6, 5, False)
    config = load_matlab({"model": matlab}).config
    assert (config.scale, config.channels, config.num_layers, config.bias) == (2, 6, 5, True)


def test_published_size(program):
    weights = port_weights(program, channels=64, inner=18)
    converted = recognise(weights).convert(weights)
    assert sum(w.numel() for w in converted.values()) == 664_704
    assert {f"body.{i}.weight" for i in range(0, 39, 2)} == set(converted)


def test_what_doesnt_fit_is_named(load, program):
    weights = port_weights(program) | {"residual_layer.1.gate": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"1 unexpected \(residual_layer\.1\.gate\)"):
        load(weights)
    del weights["residual_layer.1.gate"]
    with pytest.raises(UsageError, match="network vdsr, not srcnn"):
        load(weights, name="srcnn")


@pytest.mark.parametrize(("scale", "published"), [(2, 37.53), (3, 33.67), (4, 31.35)])
def test_published_scores(shared_data, scale, published):
    """Table II with the authors' weights."""
    model = load_model(shared_data / "weights" / "VDSR_Official.mat", scale=scale)
    result = evaluate(model, [shared_data / "benchmarks" / "Set5"], scale=scale)
    assert result.datasets[0].psnr == pytest.approx(published, abs=0.03)

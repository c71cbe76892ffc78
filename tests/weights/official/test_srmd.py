"""SRMD and SRMDNF, told the degradation of the benchmarks or another one."""

import itertools

import pytest
import torch

from hspan.errors import UsageError, WeightsError
from hspan.models import degradation_code, gaussian_kernel
from hspan.weights.official import recognise

CHANNELS = 6


def weights_of(program, scale, inputs, channels=CHANNELS):
    sizes = [inputs, *[channels] * 11, 3 * scale**2]
    for i, (given, outputs) in enumerate(itertools.pairwise(sizes)):
        program.add(f"model.{2 * i}", given, outputs)
    return program.weights


def output(program, scale, x, told):
    maps = torch.tensor(told).view(1, -1, 1, 1).expand(len(x), -1, *x.shape[2:])
    out = torch.cat([x, maps], dim=1)
    for i in range(12):
        out = program.conv(f"model.{2 * i}", out.relu() if i else out)
    return torch.nn.functional.pixel_shuffle(out, scale)


# The kernel without blur in the authors' basis: kernels/srmd_pca_matlab.mat of github.com/cszn/KAIR
# times fspecial('gaussian', 15, 0.01), which is the middle column of P.
NO_BLUR = [
    *(-1.1236096e-08, -1.3689916e-08, 1.8563796e-02, 2.8606689e-08, 3.3529297e-02, 8.3727294e-08),
    *(-2.5442401e-07, -3.1623498e-02, -1.3516925e-02, -1.1046609e-08, 3.8475379e-02),
    *(3.7946574e-08, -2.4491675e-01, -8.0221349e-01, -5.4054976e-01),
]


@pytest.mark.parametrize(("inputs", "told"), [(18, NO_BLUR), (19, [*NO_BLUR, 0.0])])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_degradation(load, image, program, assert_computes, scale, inputs, told):
    model = load(weights_of(program, scale, inputs))
    assert (model.config.scale, model.config.noise_aware) == (scale, inputs == 19)
    assert_computes(model, image, output(program, scale, image, told))


def test_another_degradation(load, image, program, assert_computes):
    weights = weights_of(program, 2, 19)
    blur = tuple(torch.linspace(-1, 1, 15).tolist())
    expected = output(program, 2, image, [*blur, 30 / 255])
    assert_computes(load(weights, blur=blur, noise=30), image, expected)
    model = load(weights)
    model.set_degradation(blur, noise=30)
    assert_computes(model, image, expected)
    assert (model.config.blur, model.config.noise) == (blur, 30)


def test_code_of_a_kernel():
    """P times the kernel read column by column, as MATLAB's P * kernel(:)."""
    basis = torch.rand(15, 225, generator=torch.manual_seed(0), dtype=torch.float64)
    kernel = gaussian_kernel(2.0, 0.7, angle=0.4)
    assert not torch.allclose(kernel, kernel.T)
    expected = torch.zeros(15, dtype=torch.float64)
    for row in range(15):
        for column in range(15):
            expected += basis[:, row + 15 * column] * kernel[row, column]
    torch.testing.assert_close(torch.tensor(degradation_code(kernel, basis)), expected.float())


def test_noise_is_not_for_srmdnf(load, program):
    with pytest.raises(UsageError, match="noise is for SRMD"):
        load(weights_of(program, 2, 18), noise=15)


def test_other_inputs_are_refused(load, program):
    with pytest.raises(WeightsError, match="4 channels in, not 18 or 19"):
        load(weights_of(program, 2, 4))


@pytest.mark.parametrize(("inputs", "scale", "count"), [(19, 4, 1_553_200), (18, 2, 1_510_540)])
def test_published_size(program, inputs, scale, count):
    weights = weights_of(program, scale, inputs, channels=128)
    weights = {k.removeprefix("model."): w for k, w in weights.items()}
    converted = recognise(weights).convert(weights)
    assert sum(w.numel() for w in converted.values()) == count

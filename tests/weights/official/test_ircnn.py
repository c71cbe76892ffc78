"""IRCNN's denoisers, alone and as a set, in the authors' iteration."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hspan.imaging import degrade, imresize
from hspan.weights import load_model
from hspan.weights.official import recognise

CHANNELS = 4
DILATIONS = (1, 2, 3, 4, 3, 2, 1)


def denoiser(program, colours, channels=CHANNELS):
    program.weights = {}
    sizes = [colours, *[channels] * 6, colours]
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        program.add(f"model.{2 * i}", inputs, outputs)
        program.weights[f"model.{2 * i}.weight"] *= 0.6  # thirty times in a row
    return program.weights


def denoised(weights, x):
    out = x
    for i, dilation in enumerate(DILATIONS):
        weight, bias = weights[f"model.{2 * i}.weight"], weights[f"model.{2 * i}.bias"]
        out = F.conv2d(out.relu() if i else out, weight, bias, padding=dilation, dilation=dilation)
    return x - out


def iteration(denoisers, lr, scale, kind):
    """The authors' demo: 30 times 5 back projections and a denoiser."""
    out = imresize(lr, scale)
    noises = np.logspace(math.log10(12 * scale), math.log10(scale), 30)
    for noise in noises:
        for _ in range(5):
            out = out + 1.75 * imresize(lr - degrade(out, scale, kind), scale)
        index = int(min(25, max(math.ceil(noise / 2), 1))) - 1
        out = denoised(denoisers[index % len(denoisers)], out)
    return out


@pytest.mark.parametrize(("scale", "kind"), [(2, "BI"), (3, "BI"), (4, "BI"), (3, "BD")])
def test_set_of_25(load, image, program, assert_computes, scale, kind):
    denoisers = [denoiser(program, 3) for _ in range(25)]
    model = load({str(i): w for i, w in enumerate(denoisers)}, scale=scale, kind=kind)
    assert (model.config.num_denoisers, model.config.colour) == (25, True)
    assert_computes(model, image, iteration(denoisers, image, scale, kind))


def test_grey(load, image, program, assert_computes, through_luma):
    denoisers = [denoiser(program, 1) for _ in range(25)]
    model = load({str(i): w for i, w in enumerate(denoisers)}, scale=2)
    assert not model.config.colour
    run = through_luma(image, 2, lambda y, _: iteration(denoisers, y, 2, "BI"))
    assert_computes(model, image, run)


def test_one_denoiser(load, image, program, assert_computes):
    weights = denoiser(program, 3)
    model = load(weights, scale=2)
    assert model.config.num_denoisers == 1
    with torch.no_grad():
        noise = model.denoisers[0](image)
    torch.testing.assert_close(image - noise, denoised(weights, image))
    assert_computes(model, image, iteration([weights], image, 2, "BI"))


def test_noise_chooses_the_denoiser(load, program):
    """At ×4 from 48 of 255 down to 4: the 24th denoiser first, the second last."""
    denoisers = {str(i): denoiser(program, 3) for i in range(25)}
    order = load(denoisers, scale=4)._order
    assert (order[0], order[-1]) == (23, 1)
    assert list(order) == sorted(order, reverse=True)


@pytest.mark.parametrize(("colours", "count"), [(3, 188_163), (1, 185_857)])
def test_published_size(program, colours, count):
    # The container drops the word that all keys begin with.
    weights = {k.removeprefix("model."): w for k, w in denoiser(program, colours, 64).items()}
    converted = recognise(weights).convert(weights)
    assert sum(w.numel() for w in converted.values()) == count


def test_a_saved_set_serves_every_scale(load, program, tmp_path):
    from hspan.weights import save_model

    model = load({str(i): denoiser(program, 3) for i in range(25)})
    save_model(model, tmp_path / "ircnn.safetensors", name="ircnn")
    again = load_model(tmp_path / "ircnn.safetensors", scale=3)
    assert (again.config.scale, again.config.num_denoisers) == (3, 25)

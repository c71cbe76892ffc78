"""Names and shapes of the authors' state dicts, recorded from their programs.

A file in keys/ is called as the network is in the registry and has a line for each group of
tensors, ``name shape``; [a-b,c] in a name stands for the numbers from a to b, and c.
"""

import itertools
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from hspan import create_model
from hspan.weights.official import OFFICIAL, recognise

FILES = sorted((Path(__file__).parent / "keys").glob("*.txt"))
MEAN = torch.tensor([0.4488, 0.4371, 0.4040])


def expanded(name):
    parts = re.split(r"\[([^\]]*)\]", name)
    choices = [[part] for part in parts]
    for i in range(1, len(parts), 2):
        ends = [run.split("-") for run in parts[i].split(",")]
        choices[i] = [str(n) for end in ends for n in range(int(end[0]), int(end[-1]) + 1)]
    return ("".join(choice) for choice in itertools.product(*choices))


def state_dict(path):
    tensors = {}
    for line in path.read_text().splitlines()[1:]:
        name, shape = line.rsplit(" ", 1)
        size = [] if shape == "scalar" else [int(n) for n in shape.split("x")]
        for key in expanded(name):
            tensors[key] = torch.zeros(()).expand(size)  # of any size in no memory
    for key, sign in (("sub_mean", -1), ("add_mean", 1)):
        if f"{key}.bias" in tensors:
            tensors[f"{key}.weight"] = torch.eye(3).view(3, 3, 1, 1)
            tensors[f"{key}.bias"] = sign * MEAN
    return tensors


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_tensor_has_its_place(path):
    tensors = state_dict(path)
    layout = recognise(tensors)
    assert path.stem in layout.names
    config = layout.config(tensors)
    with torch.device("meta"):
        network = create_model(path.stem, scale=config["scale"])
    published = asdict(network.config)
    assert config == {key: published[key] for key in config}
    ours = {key: value.shape for key, value in network.state_dict().items()}
    assert {key: value.shape for key, value in layout.convert(tensors).items()} == ours


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_one_layout_alone_recognises_it(path):
    tensors = state_dict(path)
    assert len([layout for layout in OFFICIAL if layout.matches(tensors)]) == 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_key_of_no_place_is_kept(path):
    tensors = state_dict(path)
    layout = recognise(tensors)
    first = next(iter(tensors))
    foreign = {f"{first}.extra": torch.zeros(1), "body.0.gate.weight": torch.zeros(1)}
    assert set(foreign) <= set(layout.convert(tensors | foreign))

"""Neighbours among patches, against a search pair by pair."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from hspan.modules import patch_graph
from hspan.modules.patch_graph import PatchGraph, patches_along


def draw(height, width, channels=3):
    generator = torch.Generator().manual_seed(height)
    return torch.rand(2, channels, height, width, generator=generator)


def cut(x):
    """Patches by row and column: {(i, j): [C, 3, 3]}."""
    padded = F.pad(x, (0, 1, 0, 1))
    rows, columns = map(patches_along, x.shape[1:])
    places = itertools.product(range(rows), range(columns))
    return {(i, j): padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] for i, j in places}


@pytest.mark.parametrize(("side", "count"), [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3)])
def test_patches_along(side, count):
    assert patches_along(side) == count


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("window", [30, 3])
@pytest.mark.parametrize("distances", [2**23, 7])
def test_nearest(monkeypatch, scale, window, distances):
    monkeypatch.setattr(patch_graph, "_WINDOW", window)
    monkeypatch.setattr(patch_graph, "_DISTANCES", distances)
    image, smaller = draw(18, 25), draw(18 // scale, 25 // scale)
    graph = PatchGraph(image, smaller, 4, scale)
    for b in range(2):
        queries, keys = cut(image[b]), cut(smaller[b])
        rows, columns = (1 + max(place[d] for place in keys) for d in (0, 1))
        for n, ((i, j), query) in enumerate(queries.items()):
            near = keys
            if max(rows, columns) > window:
                side = min(window, rows, columns)
                top = min(max(i // 2 - side // scale, 0), rows - side)
                left = min(max(j // 2 - side // scale, 0), columns - side)
                near = {
                    (v, u): key
                    for (v, u), key in keys.items()
                    if top <= v < top + side and left <= u < left + side
                }
            found = sorted(near, key=lambda place: (near[place] - query).square().sum().item())
            expected = [v * columns + u for v, u in found[:4]]
            assert [int(index[b, n]) for index in graph.index] == expected


def test_an_image_of_its_own_patches():
    """Where the smaller image holds what the image does, nothing differs."""
    smaller = draw(7, 9)
    graph = PatchGraph(smaller, smaller, 1, 2)
    assert graph.differences()[0].abs().max() == 0
    assert graph.index[0].tolist() == [list(range(12))] * 2


def test_aggregate_has_the_moments_of_the_query():
    """One patch for an image: its enlarged neighbour gets its mean and deviation."""
    image = draw(3, 3)
    features = draw(6, 6)
    graph = PatchGraph(features, image, 1, 2)
    x = 5 + 2 * features
    out = graph.aggregate(x, graph.index[0])
    assert out.shape == (2, 3, 12, 12)
    # The first patch alone lies at the corner.
    own, found = x[..., :2, :2], out[..., :4, :4]
    assert (found.mean((2, 3)) - own.mean((2, 3))).abs().max() < 1

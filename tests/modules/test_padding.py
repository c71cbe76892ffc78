"""Padding to sizes that networks need."""

import pytest
import torch

from hspan.modules.padding import pad_image


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (5, 7)),
        ({"multiple": 2}, (6, 8)),
        ({"multiple": 7}, (7, 7)),
        ({"minimum": 6}, (6, 7)),
        ({"multiple": 4, "minimum": 6}, (8, 8)),
    ],
)
def test_size(options, size):
    x = torch.rand(1, 3, 5, 7)
    padded = pad_image(x, **options)
    assert padded.shape[2:] == size
    assert torch.equal(padded[..., :5, :7], x)
    assert torch.equal(padded[..., -1, :7], x[..., -1, :])
    assert torch.equal(padded[..., :5, -1], x[..., -1])


def test_what_fits_is_left_alone():
    x = torch.rand(1, 3, 4, 6)
    assert pad_image(x, multiple=2) is x


def test_nothing_is_padded_in_compiled_programs_that_need_none():
    operations = []

    def note(graph, _inputs):
        operations.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    compiled = torch.compile(lambda x: pad_image(x, multiple=4) * 2, backend=note)
    for size, padded in ((8, False), (9, True)):
        operations.clear()
        x = torch.rand(1, 1, size, size)
        torch.testing.assert_close(compiled(x), pad_image(x, multiple=4) * 2)
        assert any("pad" in name for name in operations) == padded
    torch.compiler.reset()

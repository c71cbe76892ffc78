"""Random numbers from a seed."""

import torch

from hspan.ops.random import seeded_normal


def test_draws_are_those_of_one_generator():
    like = torch.zeros(1, dtype=torch.float64)
    drawn = seeded_normal(7, 2, (3, 20), like)
    generator = torch.Generator().manual_seed(7)
    expected = torch.stack([torch.randn(3, 20, generator=generator) for _ in range(2)])
    assert drawn.dtype == torch.float64
    assert torch.equal(drawn.float(), expected)


def test_global_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    seeded_normal(1, 1, (4,), torch.zeros(1))
    assert torch.equal(torch.rand(1), expected)


def test_is_an_operator():
    arguments = (3, 2, [4, 5], torch.zeros(1))
    torch.library.opcheck(torch.ops.hspan.seeded_normal.default, arguments)

"""The iterator gives the sampler's batches in order, from whatever step it is asked to."""

import itertools

import torch

from hspan.training._datamodule import Batches


class Sampler:
    def __init__(self):
        self.asked = []

    def batch(self, step):
        self.asked.append(step)
        return torch.tensor([step]), torch.tensor([-step])


def test_starts_at_the_current_step_and_draws_one_ahead():
    sampler = Sampler()
    step = 5
    batches = Batches(sampler, first_step=lambda: step, pin=False)
    got = [int(lr) for lr, hr in itertools.islice(batches, 3)]
    assert got == [5, 6, 7]
    assert set(sampler.asked) <= {5, 6, 7, 8}
    step = 2
    assert int(next(iter(batches))[0]) == 2
    assert batches.wait_seconds > 0

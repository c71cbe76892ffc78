"""Mean shift: a constant of the network."""

import torch

from hspan.modules import MeanShift


def test_shifts_and_back():
    x = torch.rand(1, 3, 4, 5)
    shifted = MeanShift(-1)(x)
    torch.testing.assert_close(
        shifted[0, :, 0, 0], x[0, :, 0, 0] - torch.tensor([0.4488, 0.4371, 0.4040])
    )
    torch.testing.assert_close(MeanShift(+1)(shifted), x)


def test_is_no_state():
    assert not MeanShift(-1).state_dict()

"""Mean shift: a constant of the network."""

import torch
from torch.nn import functional as F

from hspan.modules import MeanShift, StoredMeanShift


def test_shifts_and_back():
    x = torch.rand(1, 3, 4, 5)
    shifted = MeanShift(-1)(x)
    torch.testing.assert_close(
        shifted[0, :, 0, 0], x[0, :, 0, 0] - torch.tensor([0.4488, 0.4371, 0.4040])
    )
    torch.testing.assert_close(MeanShift(+1)(shifted), x)


def test_is_no_state():
    assert not MeanShift(-1).state_dict()


def test_stored_shift_starts_as_the_constant_one():
    x = torch.rand(1, 3, 4, 5)
    torch.testing.assert_close(StoredMeanShift(-1)(x), MeanShift(-1)(x))
    assert set(StoredMeanShift(-1).state_dict()) == {"weight", "bias"}
    assert [p.requires_grad for p in StoredMeanShift(-1).parameters()] == [True, True]
    assert not list(StoredMeanShift(-1, trainable=False).parameters())


def test_stored_shift_is_a_convolution_of_colours():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, 4, 5, generator=generator)
    shift = StoredMeanShift(+1, trainable=False)
    shift.weight.copy_(torch.rand(3, 3, 1, 1, generator=generator))
    torch.testing.assert_close(shift(x), F.conv2d(x, shift.weight, shift.bias))


def test_stored_shift_keeps_the_precision_of_its_input():
    x = torch.rand(1, 3, 4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert StoredMeanShift(-1)(x).dtype == torch.float32

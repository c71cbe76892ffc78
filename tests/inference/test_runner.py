import pytest
import torch
from torch import nn

from hspan.errors import InputError
from hspan.inference._runner import Runner

CPU = torch.device("cpu")


def draw(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


class Overflow(nn.Module):
    """Not finite in mixed precision, as large activations are in fp16."""

    def __init__(self, always=False):
        super().__init__()
        self.always = always

    def forward(self, x):
        bad = self.always or torch.is_autocast_enabled("cpu")
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3) * (torch.inf if bad else 1)


@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_every_kind_of_planes(nearest, planes):
    window = draw(planes, 3, 4)
    result = Runner(nearest(), 2, CPU, "fp32", False)(window)
    expected = window.repeat_interleave(2, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)


def test_alpha_goes_through_the_network_as_a_grey_image(local):
    network, window = local(2, 2).eval(), draw(4, 6, 5)
    run = Runner(network, 2, CPU, "fp32", False)
    with torch.no_grad():
        alpha = network(window[3:].expand(1, 3, -1, -1)).mean(1)[0]
        colour = network(window[None, :3])[0]
    torch.testing.assert_close(run(window), torch.cat([colour, alpha[None]]))


def test_constant_alpha_needs_no_network(nearest):
    network = nearest()
    window = draw(4, 3, 3)
    window[3] = 0.25
    result = Runner(network, 2, CPU, "fp32", False)(window)
    assert len(network.seen) == 1
    assert bool((result[3] == 0.25).all())


def test_ensemble_runs_eight_times(nearest):
    network = nearest()
    Runner(network, 2, CPU, "fp32", True)(draw(3, 3, 4))
    assert sorted(network.seen) == [(1, 3, 3, 4)] * 4 + [(1, 3, 4, 3)] * 4


@pytest.mark.parametrize("ensemble", [False, True])
def test_what_is_not_finite_is_repeated_in_fp32(ensemble):
    run = Runner(Overflow(), 2, CPU, "bf16", ensemble)
    window = draw(3, 2, 2)
    torch.testing.assert_close(run(window)[:, ::2, ::2], window, atol=1e-6, rtol=0)
    run(window)
    assert run.repeated == 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_stays_infinite_is_an_error(precision):
    with pytest.raises(InputError, match="isn't finite even in fp32"):
        Runner(Overflow(always=True), 2, CPU, precision, False)(draw(3, 2, 2))


def test_network_of_another_scale_is_an_error(nearest):
    with pytest.raises(InputError, match="is its scale 2"):
        Runner(nearest(3), 2, CPU, "fp32", False)(draw(3, 2, 2))

import torch

from hspan.inference import self_ensemble
from hspan.inference.ensemble import TRANSFORMS, invert, transform


def test_eight_distinct_transforms_each_undone_exactly():
    image = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    square = torch.arange(9.0).view(1, 1, 3, 3)
    seen = {tuple(transform(square, *t).flatten().tolist()) for t in TRANSFORMS}
    assert len(seen) == len(TRANSFORMS) == 8
    for t in TRANSFORMS:
        assert torch.equal(invert(transform(image, *t), *t), image)


def test_equivariant_network_is_unchanged(nearest):
    image = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    network = nearest(3)
    torch.testing.assert_close(self_ensemble(network)(image), network(image), atol=1e-6, rtol=0)


def test_equivariant_interpolation_is_unchanged():
    def bicubic(x):
        return torch.nn.functional.interpolate(x, scale_factor=2, mode="bicubic")

    image = torch.rand(1, 3, 6, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(self_ensemble(bicubic)(image), bicubic(image), atol=2e-6, rtol=0)


def test_is_the_mean_over_the_transforms():
    def ramp(x):  # adds 0, 1, 2 … from left to right: not equivariant
        return x + torch.arange(x.shape[-1], dtype=x.dtype)

    image = torch.zeros(1, 3, 3, 5)
    expected = sum(invert(ramp(transform(image, *t)), *t) for t in TRANSFORMS) / 8
    result = self_ensemble(ramp)(image)
    torch.testing.assert_close(result, expected)
    # By symmetry half of the mean 2 of five columns and half of the mean 1 of three rows.
    torch.testing.assert_close(result, torch.full_like(image, 1.5))

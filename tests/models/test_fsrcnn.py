import pytest
import torch
from torch.nn import functional as F

from hspan.imaging import imresize
from hspan.models import create_model
from hspan.modules import luma


@pytest.mark.parametrize(("scale", "tolerance"), [(2, 1e-6), (3, 0.1), (4, 0.2)])
def test_first_channel_starts_as_bicubic_enlargement(scale, tolerance):
    """Nine taps hold all of the kernel at ×2, and the most of it at ×3."""
    torch.manual_seed(0)
    model = create_model("fsrcnn", scale=scale)
    with torch.no_grad():
        model.deconv.weight[1:] = 0
        x = torch.rand(1, 1, 9, 8)
        features = torch.cat([x, torch.zeros(1, 55, 9, 8)], dim=1)
        out = model.deconv(features)
    inner = (..., slice(2 * scale, -2 * scale), slice(2 * scale, -2 * scale))
    torch.testing.assert_close(out[inner], imresize(x, scale)[inner], atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", ["srcnn", "fsrcnn"])
def test_training_starts_near_the_enlarged_image(name):
    torch.manual_seed(0)
    x = F.interpolate(torch.rand(1, 3, 4, 4), scale_factor=4, mode="bicubic")
    model = create_model(name, scale=2)
    with torch.no_grad():
        error = luma(model(x)) - luma(model.enlarge(x))
    assert error[..., 8:-8, 8:-8].abs().mean() < 0.1


def test_blocks_have_addresses():
    model = create_model("fsrcnn")
    x = torch.rand(1, 56, 5, 5)
    assert model.get_submodule("shrink")(x).shape == (1, 12, 5, 5)
    assert model.get_submodule("mapping.3")(x[:, :12]).shape == (1, 12, 5, 5)

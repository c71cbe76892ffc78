import pytest
import torch

from hspan import Upscaler, UsageError, create_model, load_model
from hspan.imaging import imresize


def test_in_an_upscaler():
    """One rounding at the end, where MATLAB rounds an 8-bit image twice."""
    image = torch.randint(0, 256, (3, 20, 17), dtype=torch.uint8, generator=torch.manual_seed(0))
    exact = imresize(image.double() / 255, 3).clamp(0, 1)
    result = Upscaler(create_model("bicubic", scale=3), tile=8)(image)
    assert (result.double() / 255 - exact).abs().max() < 0.51 / 255


def test_needs_no_file():
    assert load_model("bicubic", scale=4).config.scale == 4
    assert Upscaler("bicubic", scale=2).scale == 2
    with pytest.raises(UsageError, match="network bicubic, not vdsr"):
        load_model("bicubic", name="vdsr")

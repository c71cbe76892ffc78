import numpy as np
import pytest
import torch

from hspan.errors import InputError
from hspan.imaging import rgb_to_y

# Y = 16 + 65.481 R + 128.553 G + 24.966 B (ITU-R BT.601, R, G, B in [0, 1])
CORNERS = {
    (0, 0, 0): 16.0,
    (255, 255, 255): 235.0,
    (255, 0, 0): 81.481,
    (0, 255, 0): 144.553,
    (0, 0, 255): 40.966,
    (51, 102, 204): 16 + 0.2 * 65.481 + 0.4 * 128.553 + 0.8 * 24.966,
}


@pytest.mark.parametrize(("rgb", "y"), CORNERS.items())
@pytest.mark.parametrize(
    ("dtype", "peak"), [("uint8", 255), ("uint16", 65535), ("float32", 1), ("float64", 1)]
)
def test_corners_of_the_cube(rgb, y, dtype, peak):
    image = (np.array(rgb) * (peak / 255)).round(10).astype(dtype)[None, None]
    rtol = 1e-6 if dtype == "float32" else 1e-12
    array = rgb_to_y(image)
    assert array.shape == (1, 1)
    assert array.dtype == (dtype if dtype.startswith("float") else np.float64)
    np.testing.assert_allclose(array, y * peak / 255, rtol=rtol)
    tensor = rgb_to_y(torch.from_numpy(image).permute(2, 0, 1))
    np.testing.assert_allclose(tensor.numpy(), array, rtol=rtol)


def test_batches_of_tensors():
    assert rgb_to_y(torch.rand(4, 3, 5, 6)).shape == (4, 5, 6)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4)), np.zeros((4, 4, 4)), torch.zeros(4, 4), torch.zeros(1, 4, 3)]
)
def test_only_rgb(image):
    with pytest.raises(InputError, match="RGB"):
        rgb_to_y(image)

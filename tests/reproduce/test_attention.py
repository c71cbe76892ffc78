import numpy as np
import pytest
import torch

from hspan.models import create_model
from hspan.modules import HSPA, NLA
from hspan.reproduce._attention import attention_maps, support_sizes


@pytest.mark.parametrize("attention", ["hspa", "nla", "nla-random"])
def test_maps_are_what_the_network_computes(attention):
    torch.manual_seed(0)
    network = create_model(
        "hspan", channels=6, num_modules=2, num_blocks=0, attention=attention, samples=20
    ).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    maps = attention_maps(network, pixels, (5, 3))
    assert [each.layer for each in maps] == [1, 2]
    layer = next(m for m in network.modules() if isinstance(m, HSPA | NLA))
    seen = []
    hook = layer.register_forward_hook(lambda m, x, y: seen.append((x[0], y)))
    with torch.no_grad():
        network(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
    hook.remove()
    (x, y) = seen[0]
    with torch.no_grad():
        value = layer.tokens(x)[2][0]  # [N, C]
        mixed = torch.from_numpy(maps[0].weights).flatten() @ value
    at = (0, slice(None), 3, 5)
    torch.testing.assert_close(x[at] + layer.residual_scale * mixed, y[at])
    assert float(maps[0].weights.sum()) == pytest.approx(1, abs=1e-5)
    assert maps[0].support == {"nla": 63, "nla-random": 20}.get(attention, maps[0].support)


def test_supports():
    torch.manual_seed(0)
    network = create_model("hspan", channels=4, num_modules=2, num_blocks=0)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    sizes = support_sizes(network, pixels)
    assert sizes.shape == (60,)
    # Query 13 is the pixel in column 3 of row 2.
    assert sizes[13] == attention_maps(network, pixels, (3, 2))[0].support

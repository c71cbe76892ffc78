import pytest
import torch

from hspan.errors import UsageError
from hspan.imaging import degrade
from hspan.models import create_model


@pytest.mark.parametrize(("scale", "kind"), [(2, "BI"), (4, "BI"), (3, "BD")])
def test_iteration_explains_the_lr_image(scale, kind):
    """With a denoiser that leaves images alone, reducing the result gives the input again."""
    model = create_model("ircnn", scale=scale, kind=kind, channels=2)
    last = model.denoisers[0][-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    x = torch.rand(1, 3, 8, 8, generator=torch.manual_seed(0))
    with torch.no_grad():
        result = model(x)
        start = model.enlarge(x)
    before = (degrade(start, scale, kind) - x).abs().max()
    assert (degrade(result, scale, kind) - x).abs().max() < 0.02 * before


def test_degradation_that_doesnt_exist():
    with pytest.raises(UsageError, match="BD exists at scale 3 only"):
        create_model("ircnn", scale=2, kind="BD")

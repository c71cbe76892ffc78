import pytest
import torch

from hspan.models import create_model


@pytest.fixture
def network():
    """A small network with weights of its own."""
    torch.manual_seed(3)
    return create_model("hspan", scale=3, channels=8, num_modules=2, num_blocks=1)

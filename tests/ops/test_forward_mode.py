"""Forward-mode derivatives are refused, not silently zero."""

import pytest
import torch
from torch.autograd import forward_ad

from hspan import UsageError, hspa_attention, soft_threshold

# torch loads its forward mode through its own, deprecated, script compiler.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")


def test_jvp_is_refused():
    x = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="use reverse mode"):
        torch.func.jvp(soft_threshold, (x,), (torch.ones_like(x),))
    with pytest.raises(UsageError, match="use reverse mode"):
        torch.func.jvp(lambda v: hspa_attention(x, x, v), (x,), (torch.ones_like(x),))


def test_dual_tensors_are_refused():
    x = torch.ones(2, 3)
    with forward_ad.dual_level(), pytest.raises(UsageError, match="no forward-mode"):
        soft_threshold(forward_ad.make_dual(x, x))
    with forward_ad.dual_level():
        assert torch.equal(soft_threshold(x), torch.full((2, 3), 1 / 3))

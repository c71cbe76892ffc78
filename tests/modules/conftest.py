"""How large a tensor an operation ever makes."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Largest(TorchDispatchMode):
    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return out


@pytest.fixture
def largest_tensor():
    """Call a function; return the number of elements of the largest tensor made on the way."""

    def measured(function):
        with _Largest() as mode:
            function()
        return mode.elements

    return measured

"""Less memory in training: results that are computed again for the gradient instead of kept."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Call a function of tensors; nothing inside it is kept for the gradient.

    Args:
        function: without side effects; random numbers are drawn the same again.
        inputs: its arguments, which are kept.
    """
    if not torch.is_grad_enabled():
        return function(*inputs)
    return cast(Tensor, checkpoint(function, *inputs, use_reentrant=False))

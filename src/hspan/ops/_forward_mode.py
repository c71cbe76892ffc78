"""A guard: torch gives custom operators a forward derivative of zero, without a word."""

import torch
from torch import Tensor
from torch.autograd import forward_ad

from hspan.errors import UsageError


def refuse_forward_mode(name: str, *tensors: Tensor) -> None:
    """Raise instead of returning tangents that are silently zero.

    Args:
        name: of the function that is being called, for the message.
        tensors: its differentiable arguments.

    Raises:
        UsageError: one of them carries a tangent (``torch.func.jvp``).
    """
    if torch.compiler.is_compiling():
        return
    if any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):
        raise UsageError(
            f"{name} has no forward-mode derivative (torch.func.jvp, jacfwd); "
            "use reverse mode (torch.func.vjp, jacrev)"
        )

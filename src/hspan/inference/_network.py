"""What is asked of any network before and while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import torch
from torch import Tensor, nn

from hspan.errors import UsageError


def scale_of(model: nn.Module, device: torch.device) -> int:
    """What the configuration says; a network without one is tried out."""
    declared = getattr(getattr(model, "config", model), "scale", None)
    if isinstance(declared, int):
        return declared
    side = 16
    with evaluating(model), torch.inference_mode():
        result: Tensor = model(torch.zeros(1, 3, side, side, device=device))
    if result.shape[:2] != (1, 3) or result.shape[2] % side or result.shape[2] != result.shape[3]:
        raise UsageError(
            f"{type(model).__name__} isn't a network for super-resolution: it maps [1, 3, 16, 16] "
            f"to {list(result.shape)}"
        )
    return result.shape[2] // side


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Generator[None, None, None]:
    """Evaluation mode for the time being, module by module as it was afterwards."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, in whatever words."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error)

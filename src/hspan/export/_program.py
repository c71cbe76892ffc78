"""From a network to a program for any height and width (``torch.export``)."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from hspan.errors import HspanError, UsageError
from hspan.modules import HSPA
from hspan.ops import export_decompositions

# Neither side is a multiple of a patch or a window, and neither is the other: the tracer then
# finds no relation between sizes that would hold by chance.
_EXAMPLE = (1, 3, 37, 46)

SMALLEST_SIDE = 8
"""From this side on, height and width are free in every program that is exported."""


def trace(model: nn.Module) -> torch.export.ExportedProgram:
    """Record a network's computation with symbolic height and width.

    Args:
        model: [1, 3, H, W] RGB in [0, 1] to [1, 3, sH, sW]; its attention must be exact.

    Returns:
        The program of one image at a time, in which each attention is one operator of
        ``hspan.ops``.

    Raises:
        UsageError: the attention is truncated, or the network isn't in eval mode.
        HspanError: the network computes something that depends on the size's value.
    """
    if model.training:
        raise UsageError("a network in training mode can't be exported: call model.eval() first")
    for name, module in model.named_modules():
        if isinstance(module, HSPA) and module.topk:
            raise UsageError(
                f"{name} keeps the {module.topk} largest similarities (topk), which takes a TopK "
                "that exported programs can't have at every size: load the network with topk=None "
                "(topk=none on the command line), which is exact"
            )
    side = torch.export.Dim.DYNAMIC
    example = torch.rand(_EXAMPLE, generator=torch.Generator().manual_seed(0))
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own code, on its own classes
            return torch.export.export(
                model, (example,), dynamic_shapes=({2: side, 3: side},), strict=False
            )
    except Exception as error:  # torch raises a dozen kinds, all meaning that it can't follow
        reason = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
        raise HspanError(
            f"{type(model).__name__} can't be exported for any height and width: {reason}"
        ) from error


def opened(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same program in PyTorch's own operators alone, without sort, top-k or data-made loops."""
    return decomposed(program, export_decompositions())


def decomposed(
    program: torch.export.ExportedProgram, table: dict[Any, Any]
) -> torch.export.ExportedProgram:
    """The same program with some operators replaced.

    Args:
        program: from ``trace``.
        table: what to replace by what, as ``run_decompositions`` takes it; everything else is
            taken down to PyTorch's core operators.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return program.run_decompositions(table)

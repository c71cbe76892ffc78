"""The operators' export form: a fixed number of Newton steps, and nothing that depends on data.

Exporters can't follow sorts of dynamic length, top-k with a symbolic k, or loops that stop on
values. Newton's iteration on kappa (see ``soft_threshold``) needs only max, subtract, compare and
sum; it never overshoots, so extra steps are harmless and 24 reach the last digit in practice.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hspan.errors import UsageError

_STEPS = 24


def soft_threshold_newton(scores: Tensor, dim: int = -1, steps: int = _STEPS) -> Tensor:
    """Soft thresholding, Eqs. (9)-(12), as a fixed-length chain of elementwise steps and sums.

    Args:
        scores: any shape, floating.
        dim: the dimension that holds a row.
        steps: Newton steps; each is one pass over the row.

    Returns:
        Weights of the shape and dtype of ``scores``.
    """
    dtype = torch.float64 if scores.dtype == torch.float64 else torch.float32
    shifted = scores.to(dtype)
    shifted = shifted - shifted.amax(dim=dim, keepdim=True)
    kappa = torch.full_like(shifted.amax(dim=dim, keepdim=True), -1.0)
    for _ in range(steps):
        excess = (shifted - kappa).clamp_min(0)
        count = (excess > 0).to(dtype).sum(dim=dim, keepdim=True)
        kappa = kappa + ((excess.sum(dim=dim, keepdim=True) - 1) / count).clamp_min(0)
    return (shifted - kappa).clamp_min(0).to(scores.dtype)


def _soft_threshold(scores: Tensor, dim: int, topk: int | None) -> Tensor:
    if topk is not None:
        raise UsageError(
            "truncated soft thresholding needs top-k, which isn't exportable: set topk=None"
        )
    return soft_threshold_newton(scores, dim)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    topk: int | None,
    width: int,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.promote_types(query.dtype, torch.float32)
    scores = query.to(dtype) @ key.to(dtype).transpose(-1, -2)  # [B, N, M]
    weights = _soft_threshold(scores, -1, topk)
    # Only the backward pass reads the other two.
    limits = torch.zeros_like(scores[..., :2])
    return (weights.to(value.dtype) @ value), limits, limits.new_zeros(0, dtype=torch.uint8)


def export_decompositions() -> dict[Any, Callable[..., Any]]:
    """How to replace this package's operators by plain ones in an exported program.

    Returns:
        A table for ``torch.export.ExportedProgram.run_decompositions``.
    """
    return {
        torch.ops.hspan.soft_threshold.default: _soft_threshold,
        torch.ops.hspan.attention.default: _attention,
    }

"""The operators' export form: a fixed number of Newton steps, and nothing that depends on data.

Exporters can't follow sorts of dynamic length, top-k with a symbolic k, or loops that stop on
values. Newton's iteration on kappa (see ``soft_threshold``) needs only max, subtract, compare and
sum; it never overshoots, so extra steps are harmless.

How many are enough: with f(kappa) = Σ max(s - kappa, 0) - 1 and g the size of the support, step t
moves kappa by f_t/g_t, and convexity gives f_t ≥ f_{t+1} + g_{t+1}·f_t/g_t, so that
f_{t+1}/f_t + g_{t+1}/g_t ≤ 1 and the product f·g falls to a quarter at least. From f_0·g_0 ≤ M²
(M keys, kappa from -1 below the maximum) and g ≥ 1, f_t ≤ M²/4^t: after 30 steps the weights of any
row of up to 2^18 keys, an image of 512×512, sum to 1 within 2^-24, the precision of float32.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hspan.errors import UsageError

NEWTON_STEPS = 30


def soft_threshold_newton(scores: Tensor, dim: int = -1, steps: int = NEWTON_STEPS) -> Tensor:
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
    for last in [False] * (steps - 1) + [True]:
        excess = (shifted - kappa).clamp_min(0)
        count = (excess > 0).to(dtype).sum(dim=dim, keepdim=True)
        step = (excess.sum(dim=dim, keepdim=True) - 1) / count
        # The last may lead down: it takes away the rounding of sums over larger supports.
        kappa = kappa + (step if last else step.clamp_min(0))
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

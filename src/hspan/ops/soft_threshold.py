"""Soft thresholding: each row of similarities projected onto the simplex.

Eq. (9)    output            soft_threshold
Eq. (11)   support size      solve_threshold: the count at which its iteration stops
Eq. (12)   threshold kappa   solve_threshold
Eq. (13)   projection        what Eqs. (9)-(12) compute: argmin over the simplex of |p - s|
Eq. (18)   Jacobian          Diag(c) - c cᵀ/T, never formed
Eq. (19)   gradient          soft_threshold_backward

Departures from Algorithm 1: no sort. ``f(kappa) = Σ max(s - kappa, 0) - 1`` is convex, piecewise
linear and decreasing, so Newton's iteration from any lower bound of its root climbs to the root in
finitely many steps, each one a pass over the row (Michelot 1986); the result is the same kappa.
Rows are shifted by their maximum first; the result is unchanged and large scores lose no digits.
"""

import torch
from torch import Tensor

from hspan.errors import UsageError
from hspan.ops._forward_mode import refuse_forward_mode

# Newton's iteration gains at least one element of the complement a pass and in practice needs 4-10
# passes; the cap only guards against a loop that rounding keeps alive.
_MAX_PASSES = 100


def soft_threshold(scores: Tensor, dim: int = -1, topk: int | None = None) -> Tensor:
    """Project every row of ``scores`` onto the probability simplex, Eqs. (9)-(13).

    ``max(s - kappa, 0)`` with kappa chosen so that each row sums to 1; most weights become exactly
    zero. Differentiable by Eq. (19), and twice differentiable where the support is constant.

    Args:
        scores: any shape, any floating dtype; thresholds are computed in at least float32.
        dim: the dimension that holds a row; negative counts from the end.
        topk: only the k largest scores of a row take part (ties at the k-th are broken
            arbitrarily, but exactly k take part); None, or k >= row length, is exact.

    Returns:
        Weights in [0, 1], of the shape and dtype of ``scores``. ``-inf`` entries get weight 0. A
        row that holds NaN or ``+inf``, or nothing but ``-inf``, yields NaN in that row alone.

    Raises:
        UsageError: ``scores`` isn't floating, the row is empty, ``topk`` < 1, or a forward-mode
            derivative is asked for, which there isn't.
        IndexError: ``dim`` is out of range.
    """
    if not scores.is_floating_point():
        raise UsageError(f"scores must be of a floating dtype, got {scores.dtype}")
    if scores.dim() == 0:
        raise UsageError("scores must have at least one dimension, got a single number")
    if not -scores.dim() <= dim < scores.dim():
        raise IndexError(f"dim must lie in [{-scores.dim()}, {scores.dim() - 1}], got {dim}")
    if topk is not None and topk < 1:
        raise UsageError(f"topk must be at least 1 or None, got {topk}")
    if scores.shape[dim] == 0:
        raise UsageError(f"rows along dim {dim} are empty, so no weights can sum to 1")
    refuse_forward_mode("soft_threshold", scores)
    return torch.ops.hspan.soft_threshold.default(scores, dim % scores.dim(), topk)


def solve_threshold(shifted: Tensor, lower: Tensor | float = -1.0) -> Tensor:
    """Find kappa of Eq. (12) for every row by Newton's iteration from below.

    Args:
        shifted: [..., n] scores minus their row's maximum, so that kappa lies in [-1, 0).
        lower: a lower bound of each row's kappa, [..., 1]; -1 always is one.

    Returns:
        [..., 1], kappa relative to the row's maximum; NaN for rows that hold NaN.
    """
    kappa = torch.full_like(shifted[..., :1], -1.0)
    if isinstance(lower, Tensor):
        kappa = torch.maximum(kappa, lower)
    previous = None
    for _ in range(_MAX_PASSES):
        excess = (shifted - kappa).clamp_min_(0)
        count = torch.count_nonzero(excess, dim=-1).unsqueeze(-1)
        step = (excess.sum(dim=-1, keepdim=True) - 1) / count
        # Supports only shrink on the way up: an unchanged size is an unchanged support, and the
        # kappa that came from that support is final but for rounding, which was that of a larger
        # excess. (Comparing kappas would chase it.)
        if previous is not None and torch.equal(count, previous):
            return kappa + step
        kappa = torch.maximum(kappa, kappa + step)
        previous = count
    return kappa


def threshold_topk(shifted: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """Truncated soft thresholding of rows that are already shifted by their maximum.

    Args:
        shifted: [..., n].
        topk: how many of the largest scores take part, at most n.

    Returns:
        ``(weights, indices)``, both [..., topk]; weights may be zero.
    """
    values, indices = shifted.topk(topk, dim=-1, sorted=False)
    return (values - solve_threshold(values)).clamp_min_(0), indices


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which thresholds are computed: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


# Operators are defined by hand: the decorator ``custom_op`` would import torch's compiler, a second
# that every command would wait for.
torch.library.define("hspan::soft_threshold", "(Tensor scores, int dim, int? topk) -> Tensor")
torch.library.define(
    "hspan::soft_threshold_backward", "(Tensor grad, Tensor weights, int dim) -> Tensor"
)


@torch.library.impl("hspan::soft_threshold", "default")
def _soft_threshold(scores: Tensor, dim: int, topk: int | None) -> Tensor:
    if scores.numel() == 0:
        return scores.new_empty(scores.shape)
    rows = scores.movedim(dim, -1).to(compute_dtype(scores.dtype))
    shifted = rows - rows.amax(dim=-1, keepdim=True)  # NaN wherever the maximum isn't finite
    if topk is None or topk >= rows.shape[-1]:
        weights = (shifted - solve_threshold(shifted)).clamp_min_(0)
    else:
        kept, indices = threshold_topk(shifted, topk)
        weights = torch.zeros_like(shifted).scatter_(-1, indices, kept)
        weights.masked_fill_(kept.isnan().any(dim=-1, keepdim=True), torch.nan)
    return weights.movedim(-1, dim).to(scores.dtype).contiguous()


def _soft_threshold_shape(scores: Tensor, dim: int, topk: int | None) -> Tensor:
    return scores.new_empty(scores.shape)


@torch.library.impl("hspan::soft_threshold_backward", "default")
def _soft_threshold_backward(grad: Tensor, weights: Tensor, dim: int) -> Tensor:
    """Eq. (19): c ⊙ (r - (cᵀr/T)·1), c the support's indicator and T its size."""
    if grad.numel() == 0:
        return grad.new_empty(grad.shape)
    support = weights != 0  # NaN rows count as supported, so that their gradient is NaN too
    r = grad.to(compute_dtype(grad.dtype)).masked_fill(~support, 0)
    mean = r.sum(dim=dim, keepdim=True) / support.sum(dim=dim, keepdim=True)
    return (r - mean).masked_fill_(~support, 0).to(grad.dtype).contiguous()


def _soft_threshold_backward_shape(grad: Tensor, weights: Tensor, dim: int) -> Tensor:
    return grad.new_empty(grad.shape)


def _save_weights(ctx, inputs, output) -> None:  # pyright: ignore
    ctx.save_for_backward(output)
    ctx.dim = inputs[1]


def _apply_jacobian(ctx, grad):  # pyright: ignore
    (weights,) = ctx.saved_tensors
    return torch.ops.hspan.soft_threshold_backward.default(grad, weights, ctx.dim), None, None


def _save_support(ctx, inputs, output) -> None:  # pyright: ignore
    ctx.save_for_backward(inputs[1])
    ctx.dim = inputs[2]


def _apply_jacobian_again(ctx, grad):  # pyright: ignore
    # The Jacobian is symmetric and, on a constant support, doesn't depend on the scores.
    (weights,) = ctx.saved_tensors
    return torch.ops.hspan.soft_threshold_backward.default(grad, weights, ctx.dim), None, None


torch.library.register_fake("hspan::soft_threshold", _soft_threshold_shape)
torch.library.register_fake("hspan::soft_threshold_backward", _soft_threshold_backward_shape)
torch.library.register_autograd(
    "hspan::soft_threshold", _apply_jacobian, setup_context=_save_weights
)
torch.library.register_autograd(
    "hspan::soft_threshold_backward", _apply_jacobian_again, setup_context=_save_support
)

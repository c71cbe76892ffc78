"""The algorithm of the authors' released program, for comparison: dense scores, top-k, sort, sum.

Written from its description (Algorithm 1 and the released program's behaviour): all N×M scores,
shifted by their rows' maxima into a second matrix; the ``topk`` largest of every row, sorted, and
the support size of Eq. (11) from their running sums; rows whose support reaches ``topk`` again with
twice as many, so that the result is exact; a third matrix of weights, and its dense product with
the values. The backward is Eq. (19) on whole matrices.
"""

from typing import Any

import torch
from torch import Tensor

FIRST_TOPK = 128  # Section IV-C2, and the program's default
# Float32 matrices [N, M] alive at the worst moment: scores, shifted, their difference from kappa,
# weights; backward: weights, their gradient, its masked copy, that less its mean, the result, and
# the mask at a quarter of the size.
FORWARD_MATRICES = 4.0
BACKWARD_MATRICES = 5.25


def released_attention(query: Tensor, key: Tensor, value: Tensor, topk: int = FIRST_TOPK) -> Tensor:
    """Eq. (8) as the released program computes it.

    Args:
        query: [B, N, C].
        key: [B, M, C].
        value: [B, M, D].
        topk: scores of a row that are sorted at first.

    Returns:
        [B, N, D].
    """
    scores = query @ key.transpose(1, 2)
    weights = _Threshold.apply(scores, topk)
    return weights @ value


class _Threshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, topk: int) -> Tensor:
        shifted = scores - scores.amax(dim=-1, keepdim=True)
        kappa, size = _solve(shifted.flatten(0, 1), topk)
        shape = (*scores.shape[:2], 1)
        weights = (shifted - kappa.view(shape)).clamp(min=0)
        ctx.save_for_backward(weights, size.view(shape))
        return weights

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        weights, size = ctx.saved_tensors
        outside = weights == 0
        masked = grad_outputs[0].masked_fill(outside, 0)
        mean = masked.sum(dim=-1, keepdim=True) / size.to(masked.dtype)
        return torch.where(outside, masked, masked - mean), None


def _solve(shifted: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """Kappa and support size [R, 1] of rows [R, M], Eqs. (11) and (12)."""
    count = min(topk, shifted.shape[1])
    largest = shifted.topk(count, dim=1).values  # descending
    sums = largest.cumsum(1) - 1
    ranks = torch.arange(1, count + 1, dtype=shifted.dtype)
    size = (ranks * largest > sums).sum(dim=1, keepdim=True)
    kappa = sums.gather(1, size - 1) / size
    if count < shifted.shape[1]:
        unsolved = (size == count).squeeze(1)
        if unsolved.any():
            kappa[unsolved], size[unsolved] = _solve(shifted[unsolved], 2 * count)
    return kappa, size

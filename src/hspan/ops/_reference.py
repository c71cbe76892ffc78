"""Dense and obvious: the truth that every other backend is compared with.

Materialises the N×M matrix. Equations as in ``hspan.ops.soft_threshold``.
"""

import torch
from torch import Tensor

from hspan.ops.soft_threshold import compute_dtype, soft_threshold


def _scores(query: Tensor, key: Tensor) -> Tensor:
    dtype = compute_dtype(query.dtype)
    return query.to(dtype) @ key.to(dtype).transpose(1, 2)  # [B, N, M]


def forward(
    query: Tensor, key: Tensor, value: Tensor, topk: int | None, width: int, support: Tensor
) -> tuple[Tensor, Tensor]:
    """Eq. (8) as it stands; see ``_backends.Kernel``."""
    scores = _scores(query, key)
    weights = soft_threshold(scores, dim=-1, topk=topk)
    out = weights @ value.to(weights.dtype)
    top = scores.amax(dim=-1)
    kappa = (scores - weights).masked_fill(weights == 0, -torch.inf).amax(dim=-1) - top
    return out.to(value.dtype), torch.stack([top, kappa], dim=-1)


def backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    limits: Tensor,
    support: Tensor,
    topk: int | None,
    width: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. (19) on the dense matrix; see ``_backends.Kernel``."""
    weights = soft_threshold(_scores(query, key), dim=-1, topk=topk)
    member = (weights > 0).to(weights.dtype)
    r = grad.to(weights.dtype) @ value.to(weights.dtype).transpose(1, 2)  # [B, N, M]
    mean = (member * r).sum(-1, keepdim=True) / member.sum(-1, keepdim=True)
    d_scores = member * (r - mean)
    d_query = d_scores @ key.to(weights.dtype)
    d_key = d_scores.transpose(1, 2) @ query.to(weights.dtype)
    d_value = weights.transpose(1, 2) @ grad.to(weights.dtype)
    return d_query.to(query.dtype), d_key.to(key.dtype), d_value.to(value.dtype)

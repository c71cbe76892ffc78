"""Attention whose every query attends to every key, in closed form.

Where ``|q_i| max_j |k_j - mean k| < 1/M``, no score lies 1/M or more below the mean of its row, so
that kappa = mean(s) - 1/M and the whole row is the support. Weights are then affine in the scores,

    w_ij = 1/M + q_i (k_j - mean k),

and sums over keys can be taken before the queries are known: O(N C D) instead of O(N M (C + D)).
Networks whose embeddings start near zero live here; so do constant images.
"""

import torch
from torch import Tensor

from hspan.ops.soft_threshold import compute_dtype


def forward(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output [B, N, D] and limits [B, N, 2] as in ``_backends.Kernel``.

    The first of the limits is the mean score rather than the largest, which nobody has computed;
    their sum is kappa all the same.
    """
    dtype = torch.promote_types(compute_dtype(query.dtype), compute_dtype(value.dtype))
    q, k, v = query.to(dtype), key.to(dtype), value.to(dtype)
    keys, mean_key = _centred(k)
    values, mean_value = _centred(v)
    out = mean_value + q @ (keys.transpose(1, 2) @ values)
    mean_score = q @ mean_key.transpose(1, 2)  # [B, N, 1]
    limits = torch.cat([mean_score, torch.full_like(mean_score, _kappa(key, dtype))], dim=-1)
    return out.to(value.dtype), limits.to(compute_dtype(query.dtype))


def is_flat(limits: Tensor, key: Tensor) -> bool:
    """Whether ``forward`` made these limits, or others that belong to rows of equal scores."""
    return bool((limits[..., 1] == _kappa(key, limits.dtype)).all())


def backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value, each in its input's dtype; Eq. (19), T = M."""
    dtype = torch.promote_types(compute_dtype(query.dtype), compute_dtype(value.dtype))
    g, q, k, v = grad.to(dtype), query.to(dtype), key.to(dtype), value.to(dtype)
    keys, _ = _centred(k)
    values, _ = _centred(v)
    both = q.transpose(1, 2) @ g  # [B, C, D]
    d_query = g @ (values.transpose(1, 2) @ keys)
    d_key = values @ both.transpose(1, 2)
    d_value = g.sum(dim=1, keepdim=True) / key.shape[1] + keys @ both
    return d_query.to(query.dtype), d_key.to(key.dtype), d_value.to(value.dtype)


def support(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights themselves, all of them; see ``attention.attention_support``."""
    dtype = compute_dtype(query.dtype)
    keys, _ = _centred(key.to(dtype))
    batch, queries, _ = query.shape
    count = key.shape[1]
    weights = 1 / count + query.to(dtype) @ keys.transpose(1, 2)  # [B, N, M]
    ends = torch.arange(batch).unsqueeze(1) * queries + torch.arange(queries + 1)
    return ends * count, torch.arange(count).repeat(batch * queries), weights.flatten()


def _centred(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return [B, M, X] less its mean over M, and the mean; centred again for what rounding left."""
    mean = rows.mean(dim=1, keepdim=True)
    rows = rows - mean
    return rows - rows.mean(dim=1, keepdim=True), mean


def _kappa(key: Tensor, dtype: torch.dtype) -> float:
    return float(torch.tensor(-1 / key.shape[1], dtype=dtype))

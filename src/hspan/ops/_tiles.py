"""Dense query tiles: memory linear in N on any device, every product a plain matrix product.

A tile holds the scores of some queries against all keys. This is the way of GPUs without a special
kernel, and of rows whose support is too large for gathering (training from scratch). Products with
the values run in the dtype of the values (bf16 under autocast); thresholds in at least float32.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from hspan.ops.soft_threshold import compute_dtype, solve_threshold, threshold_topk

_ELEMENTS = {"cpu": 2**19, "cuda": 2**26}  # scores a tile: what fits a core's cache, or a GPU's L2
_MIN_QUERIES = 64  # fewer rows than this starve the matrix product


def tiles(batch: int, queries: int, keys: int, device: str) -> Iterator[tuple[slice, slice]]:
    """Cut [B, N] queries into tiles that hold about the same number of scores.

    Yields:
        Pairs of slices over batch and queries; several images share a tile only where they are
        small enough to fit whole.
    """
    budget = _ELEMENTS.get(device, 2**22)
    rows = max(_MIN_QUERIES, budget // max(keys, 1))
    images = max(1, rows // max(queries, 1))
    for b in range(0, batch, images):
        for n in range(0, queries, rows):
            yield slice(b, min(b + images, batch)), slice(n, min(n + rows, queries))


def tile_weights(
    scores: Tensor, topk: int | None, lower: Tensor | float = -1.0
) -> tuple[Tensor, Tensor]:
    """Turn one tile's scores, in place, into weights.

    Args:
        scores: [b, m, M], overwritten.
        topk: as in ``soft_threshold``.
        lower: [b, m, 1] lower bounds of kappa relative to the row's maximum.

    Returns:
        Weights [b, m, M] and limits [b, m, 2].
    """
    top = scores.amax(dim=-1, keepdim=True)
    scores -= top
    if topk is None:
        kappa = solve_threshold(scores, lower)
        weights = scores.sub_(kappa).clamp_min_(0)
    else:
        kept, indices = threshold_topk(scores, topk)
        kappa = kept.amax(dim=-1, keepdim=True).neg_()  # the largest score's weight is -kappa
        weights = scores.zero_().scatter_(-1, indices, kept)
        weights.masked_fill_(kappa.isnan(), torch.nan)
    return weights, torch.cat([top, kappa], dim=-1)


def tile_gradients(
    weights: Tensor, grad: Tensor, query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of one tile: Eq. (19) between two pairs of matrix products.

    Args:
        weights: [b, m, M].
        grad: [b, m, D].
        query: [b, m, C].
        key: [b, M, C].
        value: [b, M, D].

    Returns:
        d_query [b, m, C]; d_key [b, M, C] and d_value [b, M, D], this tile's share.
    """
    support = weights.sign()  # c of Eq. (19): 0 or 1
    r = (grad @ value.transpose(1, 2)).to(weights.dtype).mul_(support)  # [b, m, M]
    mean = r.sum(-1, keepdim=True) / support.sum(-1, keepdim=True)
    d_scores = r.addcmul_(support, mean, value=-1).to(query.dtype)
    d_value = weights.to(grad.dtype).transpose(1, 2) @ grad
    return d_scores @ key, d_scores.transpose(1, 2) @ query, d_value


def forward(
    query: Tensor, key: Tensor, value: Tensor, topk: int | None, width: int, support: Tensor
) -> tuple[Tensor, Tensor]:
    """See ``_backends.Kernel``."""
    dtype = compute_dtype(query.dtype)
    batch, queries, _ = query.shape
    keys = key.to(dtype).transpose(1, 2)
    out = value.new_empty(batch, queries, value.shape[-1])
    limits = torch.empty(batch, queries, 2, dtype=dtype, device=query.device)
    for b, n in tiles(batch, queries, key.shape[1], query.device.type):
        weights, limits[b, n] = tile_weights(query[b, n].to(dtype) @ keys[b], topk)
        out[b, n] = weights.to(value.dtype) @ value[b]
    return out, limits


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
    """See ``_backends.Kernel``; scores are computed again rather than kept."""
    dtype = limits.dtype
    batch, queries, _ = query.shape
    keys = key.to(dtype).transpose(1, 2)
    d_query = torch.empty_like(query, memory_format=torch.contiguous_format)
    d_key = torch.zeros(key.shape, dtype=dtype, device=key.device)
    d_value = torch.zeros(value.shape, dtype=dtype, device=value.device)
    for b, n in tiles(batch, queries, key.shape[1], query.device.type):
        scores = query[b, n].to(dtype) @ keys[b]
        if topk is None:
            weights = scores.sub_(limits[b, n, :1]).sub_(limits[b, n, 1:]).clamp_min_(0)
        else:
            weights, _ = tile_weights(scores, topk)
        d_query[b, n], share_k, share_v = tile_gradients(
            weights, grad[b, n].to(value.dtype), query[b, n], key[b], value[b]
        )
        d_key[b] += share_k
        d_value[b] += share_v
    return d_query, d_key.to(key.dtype), d_value.to(value.dtype)

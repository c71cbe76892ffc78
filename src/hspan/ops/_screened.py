"""Screened query tiles for processors: memory linear in N, work on the few keys that matter.

Every element of a row's support exceeds kappa, and kappa of any *subset* of a row's scores never
exceeds the row's kappa: a larger set of scores can only raise the threshold at which the excess
sums to 1. So, tile by tile of queries:

1. scores of the tile by one matrix product; the maxima of groups of 16 keys are the subset;
2. Newton's iteration on those maxima gives a lower bound of kappa, row by row;
3. only scores at or above the bound survive, a few dozen of thousands on real features;
4. kappa is solved exactly on the survivors, and their values are gathered.

Rows of a tile whose survivors are too many to gather go the dense way of ``_tiles``.
Truncation to k works alike: the k-th largest of the group maxima bounds the k-th largest score.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hspan.ops._tiles import tile_gradients, tile_weights, tiles
from hspan.ops.soft_threshold import compute_dtype, solve_threshold, threshold_topk

_GROUP = 16  # keys that share a maximum: 16 keeps the bound tight and the subset small
# Survivors / scores above which matrix products beat gathering, measured at C = 96, D = 192; the
# backward gathers and scatters five times as much as the forward.
_DENSE_FORWARD = 0.06
_DENSE_BACKWARD = 0.012
_GATHER_ELEMENTS = 2**23  # value elements gathered at once in the backward: 32 MiB of float32


@dataclass(frozen=True)
class _Sparse:
    """The survivors of one tile, row after row; rows and keys count through the tile's images."""

    rows: Tensor  # [S]
    columns: Tensor  # [S]
    weights: Tensor  # [S], zero for survivors outside the support
    kappa: Tensor  # [b, m, 1] relative to the row's maximum
    top: Tensor  # [b, m, 1]


def _bounds(scores: Tensor, topk: int | None) -> tuple[Tensor, Tensor]:
    """Each row's maximum and a lower bound, relative to it, of what its support exceeds."""
    keys = scores.shape[-1]
    groups = keys // _GROUP
    whole = scores[..., : groups * _GROUP].unflatten(-1, (_GROUP, groups)).amax(dim=-2)
    maxima = torch.cat([whole, scores[..., groups * _GROUP :]], dim=-1)
    top = maxima.amax(dim=-1, keepdim=True)
    maxima -= top
    lower = solve_threshold(maxima)
    if topk is not None and topk < maxima.shape[-1]:
        kth = maxima.topk(topk, dim=-1).values[..., -1:]
        lower = torch.maximum(lower, kth)
    return top, lower


def _survivors(candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of every True of [b, m, M], columns counted through the images."""
    images, queries, keys = candidates.shape
    flat = candidates.flatten().nonzero().squeeze(1)
    rows = flat.div(keys, rounding_mode="floor")
    columns = flat - rows * keys
    if images > 1:
        columns += rows.div(queries, rounding_mode="floor") * keys
    return rows, columns


def _pad(values: Tensor, rows: Tensor, height: int) -> tuple[Tensor, Tensor]:
    """Lay ragged rows out as a matrix filled with -inf, and say where each value went."""
    counts = torch.bincount(rows, minlength=height)
    starts = counts.cumsum(0) - counts
    places = torch.arange(len(rows)) - starts[rows]
    matrix = values.new_full((height, max(1, int(counts.max()))), -torch.inf)
    matrix[rows, places] = values
    return matrix, places


def _solve(scores: Tensor, topk: int | None) -> _Sparse | Tensor:
    """Solve a tile sparsely, or return the lower bound of kappa where that wouldn't pay."""
    images, queries, keys = scores.shape
    top, lower = _bounds(scores, topk)
    # Screening compares absolute scores; the slack covers the rounding of top + lower.
    slack = 4 * torch.finfo(scores.dtype).eps * (top.abs() + lower.abs())
    candidates = scores >= top + lower - slack
    if torch.count_nonzero(candidates) > _DENSE_FORWARD * candidates.numel():
        return lower
    rows, columns = _survivors(candidates)
    shifted = scores.flatten(0, 1)[rows, columns % keys] - top.flatten()[rows]
    padded, places = _pad(shifted, rows, images * queries)
    if topk is not None and topk < padded.shape[1]:
        kept, indices = threshold_topk(padded, topk)
        weights = torch.zeros_like(padded).scatter_(1, indices, kept)[rows, places]
        kappa = -kept.amax(dim=1, keepdim=True)
    else:
        kappa = solve_threshold(padded)
        weights = (shifted - kappa.flatten()[rows]).clamp_min_(0)
    return _Sparse(rows, columns, weights, kappa.view_as(top), top)


def _support_of(shifted: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Rows, columns, weights above a kappa that is known, or None where they are too many."""
    candidates = shifted > kappa
    if torch.count_nonzero(candidates) > _DENSE_BACKWARD * candidates.numel():
        return None
    rows, columns = _survivors(candidates)
    weights = shifted.flatten(0, 1)[rows, columns % shifted.shape[-1]] - kappa.flatten()[rows]
    return rows, columns, weights


def forward(
    query: Tensor, key: Tensor, value: Tensor, topk: int | None, width: int, support: Tensor
) -> tuple[Tensor, Tensor]:
    """See ``_backends.Kernel``."""
    dtype = compute_dtype(query.dtype)
    batch, queries, _ = query.shape
    keys = key.to(dtype).transpose(1, 2)
    values = value.to(dtype).contiguous()
    out = value.new_empty(batch, queries, value.shape[-1])
    limits = torch.empty(batch, queries, 2, dtype=dtype)
    for b, n in tiles(batch, queries, key.shape[1], "cpu"):
        scores = query[b, n].to(dtype) @ keys[b]
        solved = _solve(scores, topk)
        if isinstance(solved, Tensor):
            weights, limits[b, n] = tile_weights(scores, topk, solved)
            out[b, n] = weights.to(value.dtype) @ value[b]
            continue
        counts = torch.bincount(solved.rows, minlength=solved.top.numel())
        mixed = F.embedding_bag(
            solved.columns,
            values[b].flatten(0, 1),
            counts.cumsum(0) - counts,
            mode="sum",
            per_sample_weights=solved.weights,
        )
        mixed = mixed.view(*solved.top.shape[:2], -1)
        # A row without a finite maximum has no survivors; it must not pass for zeros.
        out[b, n] = mixed.masked_fill_(~solved.top.isfinite(), torch.nan)
        limits[b, n] = torch.cat([solved.top, solved.kappa], dim=-1)
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
    d_key = torch.zeros(key.shape, dtype=dtype)
    d_value = torch.zeros(value.shape, dtype=dtype)
    for b, n in tiles(batch, queries, key.shape[1], "cpu"):
        scores = query[b, n].to(dtype) @ keys[b]
        top, kappa = limits[b, n, :1], limits[b, n, 1:]
        sparse = None
        if topk is None:
            scores -= top
            sparse = _support_of(scores, kappa)
            weights = scores.sub_(kappa).clamp_min_(0) if sparse is None else None
        else:
            solved = _solve(scores, topk)
            weights = None
            if isinstance(solved, Tensor):
                weights, _ = tile_weights(scores, topk, solved)
            else:
                kept = (solved.weights > 0).nonzero().squeeze(1)
                sparse = solved.rows[kept], solved.columns[kept], solved.weights[kept]
        if weights is not None:
            d_query[b, n], share_k, share_v = tile_gradients(
                weights, grad[b, n].to(value.dtype), query[b, n], key[b], value[b]
            )
            d_key[b] += share_k
            d_value[b] += share_v
        elif sparse is not None:
            d_query[b, n] = _gather_gradients(
                sparse, grad[b, n], query[b, n], key[b], value[b], d_key[b], d_value[b]
            )
    return d_query, d_key.to(key.dtype), d_value.to(value.dtype)


def _gather_gradients(
    sparse: tuple[Tensor, Tensor, Tensor],
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    d_key: Tensor,
    d_value: Tensor,
) -> Tensor:
    """Eq. (19) on a tile's support; adds to d_key and d_value, returns d_query [b, m, C]."""
    dtype = d_key.dtype
    rows, columns, weights = sparse
    grads, queries = grad.flatten(0, 1).to(dtype), query.flatten(0, 1).to(dtype)
    keys, values = key.flatten(0, 1).to(dtype), value.flatten(0, 1).to(dtype)
    steps = range(0, len(rows), max(1, _GATHER_ELEMENTS // max(key.shape[2], value.shape[2])))
    parts = [slice(i, i + steps.step) for i in steps]
    r = torch.cat(
        [(grads[rows[p]] * values[columns[p]]).sum(-1) for p in parts] or [weights]
    )  # [S]
    sums = torch.zeros(len(queries), dtype=dtype).index_add_(0, rows, r)
    counts = torch.bincount(rows, minlength=len(queries))
    d_scores = r - (sums / counts)[rows]
    d_query = torch.zeros_like(queries)
    for p in parts:
        d = d_scores[p].unsqueeze(1)
        d_query.index_add_(0, rows[p], d * keys[columns[p]])
        d_key.flatten(0, 1).index_add_(0, columns[p], d * queries[rows[p]])
        d_value.flatten(0, 1).index_add_(0, columns[p], weights[p].unsqueeze(1) * grads[rows[p]])
    return d_query.view(*query.shape[:2], -1)


def support(query: Tensor, key: Tensor, topk: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """The sparse weights themselves; see ``attention.attention_support``."""
    dtype = compute_dtype(query.dtype)
    batch, queries, _ = query.shape
    keys = key.to(dtype).transpose(1, 2)
    counts = torch.zeros(batch, queries, dtype=torch.int64)
    indices: list[Tensor] = []
    weights: list[Tensor] = []
    for b, n in tiles(batch, queries, key.shape[1], "cpu"):
        scores = query[b, n].to(dtype) @ keys[b]
        solved = _solve(scores, topk)
        if isinstance(solved, Tensor):
            dense, _ = tile_weights(scores, topk, solved)
            rows, columns = _survivors(dense != 0)
            kept = dense.flatten(0, 1)[rows, columns % key.shape[1]]
        else:
            positive = solved.weights > 0
            rows, columns = solved.rows[positive], solved.columns[positive]
            kept = solved.weights[positive]
        size = counts[b, n].numel()
        counts[b, n] = torch.bincount(rows, minlength=size).view_as(counts[b, n])
        indices.append(columns % key.shape[1])
        weights.append(kept)
    ends = counts.flatten().cumsum(0).view(batch, queries)
    offsets = torch.cat([ends[:, :1] - counts[:, :1], ends], dim=1)
    return offsets, torch.cat(indices), torch.cat(weights)

"""The compiled kernel for processors: native/ explains how it works; here arrays are handed over.

Half-precision inputs are widened to float32 first. Values and gradients are exact to float32 (to
float64 where an input is float64), whatever precision the kernel screens in. Only where all inputs
are bf16, scores may be sums in float32 (weights are then good to four digits, twice what the output
holds), and weights, and what the backward pass multiplies, may be rounded to bf16, as autocast has
it. Short sequences in bf16 are left to ``_short``.
"""

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hspan.errors import BackendUnavailable
from hspan.ops import _flat, _library, _screened, _short
from hspan.ops._backends import support_capacity
from hspan.ops._calls import Code, checked, threads_for
from hspan.ops.soft_threshold import compute_dtype

_TILES = 0  # a bf16 call's backward takes tiles where that is faster; 1: always; -1: never
_PREFIX = 0  # the same for the forward pass's bounds from principal components


class _Call(ctypes.Structure):
    """hspan_call in native/hspan.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "queries", "keys")),
        *((name, ctypes.c_int64) for name in ("channels", "value_channels", "topk", "width")),
        *(
            (name, ctypes.c_int32)
            for name in ("real_bytes", "threads", "level", "as_bf16", "tiles", "prefix")
        ),
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "limits")),
        ("capacity", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("starts", "counts", "indices", "weights")),
    ]


class _Kept(NamedTuple):
    """Views of the memory that holds the supports of a call."""

    starts: Tensor  # [B, N] int64
    weights: Tensor  # [B, capacity]
    counts: Tensor  # [B, N] int32
    indices: Tensor  # [B, capacity] int32


def _views(memory: Tensor, batch: int, queries: int, capacity: int, dtype: torch.dtype) -> _Kept:
    sizes = (
        batch * queries * 8,
        batch * capacity * dtype.itemsize,
        batch * queries * 4,
        batch * capacity * 4,
    )
    starts, weights, counts, indices = memory.split(sizes)
    return _Kept(
        starts.view(torch.int64).view(batch, queries),
        weights.view(dtype).view(batch, capacity),
        counts.view(torch.int32).view(batch, queries),
        indices.view(torch.int32).view(batch, capacity),
    )


def _keep_nothing(support: Tensor, query: Tensor, key: Tensor, value: Tensor) -> None:
    """Leave word for a backward pass of this module that supports must be found again."""
    batch, queries, keys = *query.shape[:2], key.shape[1]
    kept = _views(support, batch, queries, support_capacity(queries, keys), _real(query, value))
    kept.starts.fill_(-1)
    kept.counts.fill_(keys)


def _compiled() -> ctypes.CDLL:
    library = _library.library()
    if library is None:
        raise BackendUnavailable(_library.why_missing())
    return library


def _real(query: Tensor, value: Tensor) -> torch.dtype:
    return torch.promote_types(compute_dtype(query.dtype), compute_dtype(value.dtype))


def _as_bf16(query: Tensor, value: Tensor) -> int:
    if query.dtype != torch.bfloat16:
        return 0
    return 2 if value.dtype == torch.bfloat16 else 1


def _call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    limits: Tensor | None,
    kept: _Kept | None,
    topk: int | None,
    width: int,
    as_bf16: int,
    tiles: int = -1,
) -> _Call:
    batch, queries, channels = query.shape
    return _Call(
        batch=batch,
        queries=queries,
        keys=key.shape[1],
        channels=channels,
        value_channels=value.shape[2],
        topk=topk or 0,
        width=width,
        real_bytes=query.dtype.itemsize,
        threads=threads_for(query, key, value),
        level=_library.chosen_level(),
        as_bf16=as_bf16,
        tiles=tiles,
        prefix=_PREFIX,
        query=query.data_ptr(),
        key=key.data_ptr(),
        value=value.data_ptr(),
        limits=None if limits is None else limits.data_ptr(),
        capacity=0 if kept is None else kept.indices.shape[1],
        **({} if kept is None else {n: t.data_ptr() for n, t in kept._asdict().items()}),
    )


def _run(function: Any, call: _Call, *tensors: Tensor) -> Code:
    """Call the library; what isn't DONE it leaves to others."""
    code = int(function(ctypes.byref(call), *(ctypes.c_void_p(t.data_ptr()) for t in tensors)))
    expected = Code.DONE, Code.KEYS_NOT_FINITE, Code.FLAT
    return checked(code, *expected, smaller="a smaller image or tiles")


def forward(
    query: Tensor, key: Tensor, value: Tensor, topk: int | None, width: int, support: Tensor
) -> tuple[Tensor, Tensor]:
    """See ``_backends.Kernel``."""
    if _TILES == 0 and _short.takes(query, key, value, topk):
        found = _short.forward(query, key, value)
        if found is not None:
            if support.numel():
                _keep_nothing(support, query, key, value)
            return found
    dtype = _real(query, value)
    q, k, v = (t.to(dtype).contiguous() for t in (query, key, value))
    batch, queries, _ = q.shape
    out = torch.empty(batch, queries, v.shape[2], dtype=dtype)
    limits = torch.empty(batch, queries, 2, dtype=dtype)
    if out.shape[:2].numel() == 0:
        return out.to(value.dtype), limits.to(compute_dtype(query.dtype))
    kept = None
    if support.numel():
        kept = _views(support, batch, queries, support_capacity(queries, k.shape[1]), dtype)
    used = torch.empty(batch, dtype=torch.int64)
    as_bf16 = _as_bf16(query, value)
    tiles = _TILES if as_bf16 == 2 else -1
    call = _call(q, k, v, limits, kept, topk, width, as_bf16, tiles)
    code = _run(_compiled().hspan_forward, call, out, used)
    if code != Code.DONE and kept is not None:
        _keep_nothing(support, query, key, value)
    if code == Code.FLAT:
        return _flat.forward(query, key, value)
    if code == Code.KEYS_NOT_FINITE:
        return _screened.forward(query, key, value, topk, width, support)
    return out.to(value.dtype), limits.to(compute_dtype(query.dtype))


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
    """See ``_backends.Kernel``."""
    halves = grad.dtype == torch.bfloat16
    if _TILES == 0 and halves and _short.takes(query, key, value, topk):
        gradients = _short.backward(grad, query, key, value, limits)
        if gradients is not None:
            return gradients
    dtype = _real(query, value)
    g, q, k, v = (t.to(dtype).contiguous() for t in (grad, query, key, value))
    batch, queries, _ = q.shape
    gradients = tuple(torch.empty(t.shape, dtype=dtype) for t in (q, k, v))
    if batch == 0 or queries == 0:
        return torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
    if topk is None and _flat.is_flat(limits, key):
        return _flat.backward(grad, query, key, value)
    kept = None
    if support.numel():
        kept = _views(support, batch, queries, support_capacity(queries, k.shape[1]), dtype)
    as_bf16 = _as_bf16(query, value)
    tiles = _TILES if as_bf16 == 2 and halves else -1
    saved = limits.to(dtype).contiguous()
    call = _call(q, k, v, saved, kept, topk, width, as_bf16, tiles)
    if _run(_compiled().hspan_backward, call, g, *gradients) == Code.KEYS_NOT_FINITE:
        return _screened.backward(grad, query, key, value, limits, support, topk, width)
    d_query, d_key, d_value = gradients
    return d_query.to(query.dtype), d_key.to(key.dtype), d_value.to(value.dtype)


def support(query: Tensor, key: Tensor, topk: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """The sparse weights themselves; see ``attention.attention_support``."""
    dtype = compute_dtype(query.dtype)
    q, k = (t.to(dtype).contiguous() for t in (query, key))
    batch, queries, _ = q.shape
    nothing = torch.empty(batch, k.shape[1], 0, dtype=dtype)
    limits = torch.empty(batch, queries, 2, dtype=dtype)
    used = torch.zeros(batch, dtype=torch.int64)
    capacity = support_capacity(queries, k.shape[1])
    while True:  # twice at most: then the room needed is known
        size = batch * (queries * 12 + capacity * (4 + dtype.itemsize))
        kept = _views(torch.empty(size, dtype=torch.uint8), batch, queries, capacity, dtype)
        call = _call(q, k, nothing, limits, kept, topk, 0, query.dtype == torch.bfloat16)
        code = Code.DONE
        if batch and queries:
            code = _run(_compiled().hspan_forward, call, nothing, used)
        if code == Code.FLAT:
            return _flat.support(query, key)
        if code == Code.KEYS_NOT_FINITE:
            return _screened.support(query, key, topk)
        if batch == 0 or int(used.max()) <= capacity:
            break
        capacity = int(used.max())
    counts = kept.counts.long().flatten()
    image = torch.arange(batch).repeat_interleave(queries) * capacity
    ends = counts.cumsum(0)
    # Entry e of the result is the (e - its query's first)-th of its query's entries.
    first = image + kept.starts.flatten() - (ends - counts)
    places = torch.arange(int(counts.sum())) + first.repeat_interleave(counts)
    ends = ends.view(batch, queries)
    offsets = torch.cat([ends[:, :1] - counts.view(batch, queries)[:, :1], ends], dim=1)
    return offsets, kept.indices.flatten()[places].long(), kept.weights.flatten()[places]

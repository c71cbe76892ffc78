"""Triton kernels for GPUs: screened like ``_screened``, memory linear in N, nothing atomic.

``_triton_screen`` finds the few candidates of every query and ``_triton_threshold`` its kappa, both
launched by ``_triton_solver``; ``_triton_apply`` mixes the values, ``_triton_backward`` follows the
gradient. This module cuts the queries into stripes whose scratch memory is bounded and goes through
them without ever waiting for the device: query tiles whose rows have too many candidates are
flagged there, and kernels that multiply whole tiles take them over.

float16 and bfloat16 products run on tensor cores and accumulate in float32, float32 products are
float32 throughout. Thresholds are float32, relative to the row's maximum.
"""

from typing import Any

import torch
from torch import Tensor

from hspan.ops import _triton_apply as apply_kernels
from hspan.ops import _triton_backward as backward_kernels
from hspan.ops import _triton_shapes as shapes
from hspan.ops import _triton_solver as solver
from hspan.ops._triton_tiles import INTERPRETED


def _operand(x: Tensor) -> Tensor:
    """A contiguous tensor of a dtype that the kernels multiply."""
    if x.dtype == torch.float64 or (INTERPRETED.value and x.dtype == torch.bfloat16):
        x = x.float()  # the interpreter's products of bfloat16 are garbage, silently
    return x.contiguous()


def _orders(
    tiling: shapes.Tiling, query: Tensor, width: int
) -> tuple[Tensor | None, Tensor | None]:
    """Orders of queries and of keys in which tiles hold neighbours; where all are visited, none."""
    if tiling.direct:
        return None, None
    tokens = query.shape[1], tiling.keys
    by_query, by_key = (shapes.block_order(count, width, query.device) for count in tokens)
    return by_query, by_key


def _take(x: Tensor, order: Tensor | None) -> Tensor:
    return x if order is None else x.index_select(1, order)


def _put_back(x: Tensor, order: Tensor | None) -> Tensor:
    return x if order is None else torch.empty_like(x).index_copy_(1, order, x)


def _mix(
    tiling: shapes.Tiling,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rows: solver.Thresholds,
    found: solver.Candidates,
    out: Tensor,
) -> None:
    """Write the output of a stripe whose thresholds are known."""
    batch, queries, _ = query.shape
    keys, channels, launch = key.shape[1], value.shape[2], tiling.launch
    parts = shapes.slices(channels, value.dtype)
    values = shapes.accumulation(channels, parts)
    truncated = tiling.topk is not None
    if tiling.screened:
        solver.enqueue(
            apply_kernels.gather,
            (queries, parts, batch),
            *(value, out, rows.limits, rows.cuts, rows.edges),
            *(found.scores, found.indices, found.sizes, found.flags),
            *(queries, keys, tiling.capacity),
            truncated=truncated,
            block_queries=launch.queries,
            block=shapes.GATHER_BLOCK,
            values=values,
            warps=1,
        )
    solver.enqueue(
        apply_kernels.multiply,
        (tiling.query_tiles(queries), parts, batch),
        *(query, key, value, out, rows.limits, rows.cuts, rows.edges),
        *(found.lists, found.visits, found.flags),
        *(queries, keys, tiling.tiles),
        screened=tiling.screened,
        truncated=truncated,
        shape=tiling.shape(launch.queries),
        values=values,
        warps=launch.warps,
        stages=launch.stages,
    )


def forward(
    query: Tensor, key: Tensor, value: Tensor, topk: int | None, width: int, support: Tensor
) -> tuple[Tensor, Tensor]:
    """See ``_backends.Kernel``.

    Of keys that tie at the k-th place the first ones take part; with a width, the first in the
    order of ``block_order``.
    """
    q, k, v = _operand(query), _operand(key), _operand(value)
    tiling = shapes.tiling_of(q, k, v, topk)
    by_query, by_key = _orders(tiling, q, width)
    q, k, v = _take(q, by_query), _take(k, by_key), _take(v, by_key)
    batch, queries, _ = q.shape
    out = v.new_empty(batch, queries, v.shape[2])
    limits = torch.empty(batch, queries, 2, dtype=torch.float32, device=q.device)
    solve, scratch = solver.solve_directly, 4
    if tiling.screened:
        solve, scratch = solver.solve_screened, 4 * tiling.tiles + 8 * tiling.capacity
    if out.numel() > 0:
        with torch.cuda.device_of(q):
            for b, n in tiling.stripes(batch, queries, scratch):
                rows, found = solve(tiling, q[b, n], k[b], limits[b, n])
                _mix(tiling, q[b, n], k[b], v[b], rows, found, out[b, n])
    return _put_back(out, by_query).to(value.dtype), _put_back(limits, by_query)


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
    """See ``_backends.Kernel``; deterministic. Scores are computed again rather than kept.

    With truncation the k-th largest scores are sought again too: limits don't tell them.
    """
    q, k, v = _operand(query), _operand(key), _operand(value)
    tiling = shapes.tiling_of(q, k, v, topk)
    by_query, by_key = _orders(tiling, q, width)
    q, k, v = _take(q, by_query), _take(k, by_key), _take(v, by_key)
    g = _take(grad.to(v.dtype).contiguous(), by_query)
    limits = _take(limits, by_query)
    batch, queries, _ = q.shape
    d_query = torch.empty_like(q)
    d_key = torch.zeros(k.shape, dtype=torch.float32, device=k.device)
    d_value = torch.zeros(v.shape, dtype=torch.float32, device=v.device)
    scratch = 4 + 9 * tiling.tiles // tiling.launch.queries
    if topk is not None:
        scratch += 4 * tiling.tiles + 8 * tiling.capacity
    if g.numel() > 0:
        with torch.cuda.device_of(q):
            for b, n in tiling.stripes(batch, queries, scratch):
                rows = solver.Thresholds(limits[b, n].contiguous(), limits, limits)
                if topk is not None:
                    rows, _ = solver.solve_screened(
                        tiling, q[b, n], k[b], torch.empty_like(rows.limits)
                    )
                operands = (q[b, n], k[b], v[b], g[b, n])
                _differentiate(tiling, operands, rows, d_query[b, n], d_key[b], d_value[b])
    return (
        _put_back(d_query, by_query).to(query.dtype),
        _put_back(d_key, by_key).to(key.dtype),
        _put_back(d_value, by_key).to(value.dtype),
    )


def _differentiate(
    tiling: shapes.Tiling,
    operands: tuple[Tensor, Tensor, Tensor, Tensor],
    rows: solver.Thresholds,
    d_query: Tensor,
    d_key: Tensor,
    d_value: Tensor,
) -> None:
    """Write a stripe's d_query, add its share to d_key and d_value."""
    query, key, value, _ = operands
    batch, queries, channels = query.shape
    keys, tiles, launch = key.shape[1], tiling.tiles, tiling.launch
    query_tiles = tiling.query_tiles(queries)
    truncated = tiling.topk is not None
    limits = (rows.limits, rows.cuts, rows.edges)
    unused = torch.empty(0, dtype=torch.int32, device=query.device)
    by_query = by_key = (unused, unused)
    if not tiling.direct:
        hits = torch.empty(batch, query_tiles, tiles, dtype=torch.int8, device=query.device)
        programs = -(-queries // launch.screen_queries)
        spans, span = tiling.spans(programs * batch)
        solver.enqueue(
            backward_kernels.mark,
            (programs, spans, batch),
            *(query, key, *limits, hits),
            *(queries, keys, tiles, span),
            truncated=truncated,
            shape=tiling.shape(launch.screen_queries),
            block_queries=launch.queries,
            warps=launch.screen_warps,
            stages=launch.stages,
        )
        by_query = solver.list_hits(hits, query_tiles, 1)
        by_key = solver.list_hits(hits.transpose(1, 2), tiles, 1)
    means = rows.limits.new_empty(batch, queries)
    values = shapes.contraction(value.shape[2], value.dtype)
    parts = shapes.slices(channels, query.dtype)
    constants: dict[str, Any] = {
        "listed": not tiling.direct,
        "truncated": truncated,
        "shape": tiling.shape(launch.queries),
        "values": values,
        "stages": shapes.gradient_stages(launch, tiling.channels, values),
    }
    solver.enqueue(
        backward_kernels.grad_query,
        (query_tiles, parts, batch),
        *(*operands, d_query, *limits, means, *by_query),
        *(queries, keys, tiles),
        outputs=shapes.accumulation(channels, parts),
        warps=launch.warps,
        **constants,
    )
    parts = max(parts, shapes.slices(value.shape[2], value.dtype))
    solver.enqueue(
        backward_kernels.grad_keys,
        (tiles, parts, batch),
        *(*operands, d_key, d_value, *limits, means, *by_key),
        *(queries, keys, query_tiles),
        key_outputs=shapes.accumulation(channels, parts),
        value_outputs=shapes.accumulation(value.shape[2], parts),
        warps=launch.wide_warps,
        **constants,
    )

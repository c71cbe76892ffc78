"""Triton kernels for GPUs: screened like ``_screened``, memory linear in N, nothing atomic.

``_triton_screen`` finds the few candidates of every query, ``_triton_threshold`` its kappa,
``_triton_apply`` mixes the values and ``_triton_backward`` follows the gradient. This module cuts
the queries into stripes whose scratch memory is bounded and launches the kernels in order, without
ever waiting for the device: query tiles whose rows have too many candidates are flagged there, and
kernels that multiply whole tiles take them over.

float16 and bfloat16 products run on tensor cores and accumulate in float32, float32 products are
float32 throughout. Thresholds are float32, relative to the row's maximum.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hspan.ops import _triton_apply as apply_kernels
from hspan.ops import _triton_backward as backward_kernels
from hspan.ops import _triton_screen as screen_kernels
from hspan.ops import _triton_shapes as shapes
from hspan.ops import _triton_threshold as threshold_kernels
from hspan.ops._triton_tiles import INTERPRETED


@dataclass(frozen=True)
class _Thresholds:
    """Who is in the support of a stripe's rows; see ``_triton_tiles.in_support``."""

    limits: Tensor  # [b, n, 2]
    cuts: Tensor  # [b, n, 2] low and high, with truncation only
    edges: Tensor  # [b, n] likewise


@dataclass(frozen=True)
class _Candidates:
    """What screening leaves of a stripe."""

    scores: Tensor  # [b, n, capacity] relative to the row's maximum
    indices: Tensor  # [b, n, capacity]
    sizes: Tensor  # [b, n] candidates; in flagged query tiles, elements of the support
    flags: Tensor  # [b, query tiles] candidates don't fit
    lists: Tensor  # [b, query tiles, key tiles] the tiles that hold candidates
    visits: Tensor  # [b, query tiles] how many those are


def _launch(
    kernel: Any,
    grid: tuple[int, ...],
    *arguments: Any,
    warps: int,
    stages: int = 3,
    **constants: Any,
) -> None:
    """Launch a kernel; fused multiply-adds are Triton's default, which it wants to hear."""
    kernel[grid](*arguments, num_warps=warps, num_stages=stages, enable_fp_fusion=True, **constants)


def _operand(x: Tensor) -> Tensor:
    """A contiguous tensor of a dtype that the kernels multiply."""
    if x.dtype == torch.float64 or (INTERPRETED.value and x.dtype == torch.bfloat16):
        x = x.float()  # the interpreter's products of bfloat16 are garbage, silently
    return x.contiguous()


def _list(hits: Tensor, lists: int, merged: int) -> tuple[Tensor, Tensor]:
    """Turn a map of hits [b, lines, items] into one list per ``merged`` lines: lists, visits."""
    batch, lines, items = hits.shape
    listed = torch.empty(batch, lists, items, dtype=torch.int32, device=hits.device)
    visits = torch.empty(batch, lists, dtype=torch.int32, device=hits.device)
    _launch(
        screen_kernels.list_hits,
        (lists, batch),
        hits,
        listed,
        visits,
        *hits.stride(),
        lines,
        items,
        merged=merged,
        chunk=shapes.LIST_CHUNK,
        warps=4,
    )
    return listed, visits


def _collect(
    tiling: shapes.Tiling, query: Tensor, key: Tensor, limits: Tensor
) -> tuple[Tensor, _Candidates]:
    """Write the rows' maxima into limits; return lower bounds of kappa, and the candidates."""
    batch, queries, _ = query.shape
    keys, tiles, launch = key.shape[1], tiling.tiles, tiling.launch
    maxima = limits.new_empty(batch, tiles, queries)
    programs = -(-queries // launch.screen_queries)
    spans, span = tiling.spans(programs * batch)
    _launch(
        screen_kernels.screen,
        (programs, spans, batch),
        *(query, key, maxima),
        *(queries, keys, tiles, span),
        shape=tiling.shape(launch.screen_queries),
        warps=launch.screen_warps,
        stages=launch.stages,
    )
    groups = -(-queries // shapes.BOUND_ROWS)
    lower = limits.new_empty(batch, queries)
    hits = torch.empty(batch, groups, tiles, dtype=torch.int8, device=query.device)
    _launch(
        screen_kernels.bound,
        (groups, batch),
        *(maxima, limits, lower, hits),
        *(queries, tiles, tiling.topk or 0),
        truncated=tiling.topk is not None,
        rows=shapes.BOUND_ROWS,
        chunk=shapes.BOUND_CHUNK,
        warps=launch.warps,
    )
    query_tiles = tiling.query_tiles(queries)
    lists, visits = _list(hits, query_tiles, launch.queries // shapes.BOUND_ROWS)
    found = _Candidates(
        scores=limits.new_empty(batch, queries, tiling.capacity),
        indices=visits.new_empty(batch, queries, tiling.capacity),
        sizes=visits.new_empty(batch, queries),
        flags=visits.new_empty(batch, query_tiles),
        lists=lists,
        visits=visits,
    )
    _launch(
        screen_kernels.collect,
        (query_tiles, batch),
        *(query, key, limits, lower, lists, visits),
        *(found.scores, found.indices, found.sizes, found.flags),
        *(queries, keys, tiles, tiling.capacity),
        shape=tiling.shape(launch.queries),
        batch=shapes.COLLECT_BATCH,
        warps=launch.wide_warps,
        stages=launch.stages,
    )
    return lower, found


def _solve_screened(
    tiling: shapes.Tiling, query: Tensor, key: Tensor, limits: Tensor
) -> tuple[_Thresholds, _Candidates]:
    """Solve rows on their candidates, and flagged query tiles over the tiles that hold them."""
    batch, queries, _ = query.shape
    launch = tiling.launch
    lower, found = _collect(tiling, query, key, limits)
    cuts, edges = torch.empty_like(limits), torch.empty_like(found.sizes)
    _launch(
        threshold_kernels.select,
        (queries, batch),
        *(found.scores, found.indices, found.sizes, found.flags),
        *(lower, limits, cuts, edges),
        *(queries, tiling.topk or 0),
        truncated=tiling.topk is not None,
        capacity=tiling.capacity,
        block_queries=launch.queries,
        warps=max(1, tiling.capacity // 512),
    )
    flagged = (query, key, limits, lower, found.lists, found.visits, found.sizes, found.flags)
    _launch(
        threshold_kernels.solve,
        (tiling.query_tiles(queries), batch),
        *flagged,
        *(queries, key.shape[1], tiling.tiles),
        screened=True,
        groups=shapes.GROUPS,
        shape=tiling.shape(launch.queries),
        warps=launch.warps,
        stages=launch.stages,
    )
    if tiling.topk is not None:
        _launch(
            threshold_kernels.truncate,
            (tiling.query_tiles(queries), batch),
            *flagged,
            *(cuts, edges),
            *(queries, key.shape[1], tiling.tiles, tiling.topk),
            shape=tiling.shape(launch.queries),
            warps=launch.warps,
            stages=launch.stages,
        )
    return _Thresholds(limits, cuts, edges), found


def _solve_directly(
    tiling: shapes.Tiling, query: Tensor, key: Tensor, limits: Tensor
) -> tuple[_Thresholds, _Candidates]:
    """Solve every row over all tiles; there are no candidates."""
    batch, queries, _ = query.shape
    launch = tiling.launch
    unused = torch.empty(0, dtype=torch.int32, device=query.device)
    sizes = torch.empty(batch, queries, dtype=torch.int32, device=query.device)
    _launch(
        threshold_kernels.solve,
        (tiling.query_tiles(queries), batch),
        *(query, key, limits, limits, unused, unused, sizes, unused),
        *(queries, key.shape[1], tiling.tiles),
        screened=False,
        groups=shapes.GROUPS,
        shape=tiling.shape(launch.queries),
        warps=launch.warps,
        stages=launch.stages,
    )
    found = _Candidates(unused, unused, sizes, unused, unused, unused)
    return _Thresholds(limits, limits, unused), found


def _mix(
    tiling: shapes.Tiling,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rows: _Thresholds,
    found: _Candidates,
    out: Tensor,
) -> None:
    """Write the output of a stripe whose thresholds are known."""
    batch, queries, _ = query.shape
    keys, channels, launch = key.shape[1], value.shape[2], tiling.launch
    parts = shapes.slices(channels, value.dtype)
    values = shapes.accumulation(channels, parts)
    truncated = tiling.topk is not None
    if tiling.screened:
        _launch(
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
    _launch(
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
    """See ``_backends.Kernel``. Of keys that tie at the k-th place the first ones take part."""
    q, k, v = _operand(query), _operand(key), _operand(value)
    batch, queries, _ = q.shape
    out = v.new_empty(batch, queries, v.shape[2])
    limits = torch.empty(batch, queries, 2, dtype=torch.float32, device=q.device)
    tiling = shapes.tiling_of(q, k, v, topk)
    solve, scratch = _solve_directly, 4
    if tiling.screened:
        solve, scratch = _solve_screened, 4 * tiling.tiles + 8 * tiling.capacity
    if out.numel() > 0:
        with torch.cuda.device_of(q):
            for b, n in tiling.stripes(batch, queries, scratch):
                rows, found = solve(tiling, q[b, n], k[b], limits[b, n])
                _mix(tiling, q[b, n], k[b], v[b], rows, found, out[b, n])
    return out.to(value.dtype), limits


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
    g = grad.to(v.dtype).contiguous()
    batch, queries, _ = q.shape
    d_query = torch.empty_like(q)
    d_key = torch.zeros(k.shape, dtype=torch.float32, device=k.device)
    d_value = torch.zeros(v.shape, dtype=torch.float32, device=v.device)
    tiling = shapes.tiling_of(q, k, v, topk)
    scratch = 4 + 9 * tiling.tiles // tiling.launch.queries
    if topk is not None:
        scratch += 4 * tiling.tiles + 8 * tiling.capacity
    if g.numel() > 0:
        with torch.cuda.device_of(q):
            for b, n in tiling.stripes(batch, queries, scratch):
                rows = _Thresholds(limits[b, n].contiguous(), limits, limits)
                if topk is not None:
                    rows, _ = _solve_screened(tiling, q[b, n], k[b], torch.empty_like(rows.limits))
                operands = (q[b, n], k[b], v[b], g[b, n])
                _differentiate(tiling, operands, rows, d_query[b, n], d_key[b], d_value[b])
    return d_query.to(query.dtype), d_key.to(key.dtype), d_value.to(value.dtype)


def _differentiate(
    tiling: shapes.Tiling,
    operands: tuple[Tensor, Tensor, Tensor, Tensor],
    rows: _Thresholds,
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
        _launch(
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
        by_query = _list(hits, query_tiles, 1)
        by_key = _list(hits.transpose(1, 2), tiles, 1)
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
    _launch(
        backward_kernels.grad_query,
        (query_tiles, parts, batch),
        *(*operands, d_query, *limits, means, *by_query),
        *(queries, keys, tiles),
        outputs=shapes.accumulation(channels, parts),
        warps=launch.warps,
        **constants,
    )
    parts = max(parts, shapes.slices(value.shape[2], value.dtype))
    _launch(
        backward_kernels.grad_keys,
        (tiles, parts, batch),
        *(*operands, d_key, d_value, *limits, means, *by_key),
        *(queries, keys, query_tiles),
        key_outputs=shapes.accumulation(channels, parts),
        value_outputs=shapes.accumulation(value.shape[2], parts),
        warps=launch.wide_warps,
        **constants,
    )

"""Triton kernels for GPUs: screened like ``_screened``, memory linear in N, nothing atomic.

``_triton_screen`` finds the few candidates of every query, ``_triton_threshold`` its kappa,
``_triton_apply`` mixes the values and ``_triton_backward`` follows the gradient; this module cuts
the queries into stripes whose scratch memory is bounded and launches them in order. The device is
never waited for: a query tile whose rows have too many candidates is flagged on the device, and
kernels that multiply whole tiles take it over.

float16 and bfloat16 products run on tensor cores and accumulate in float32, float32 products are
float32 throughout, thresholds are float32 relative to the row's maximum.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hspan.ops import (
    _triton_apply,
    _triton_backward,
    _triton_screen,
    _triton_shapes,
    _triton_threshold,
)
from hspan.ops._triton_tiles import INTERPRETED


@dataclass(frozen=True)
class _Tiling:
    """How the keys of one call are tiled, for whom, and how kernels are launched."""

    launch: _triton_shapes.Launch
    channels: _triton_shapes.Contraction
    keys: int
    topk: int | None

    @property
    def tiles(self) -> int:
        return -(-self.keys // self.launch.keys)

    @property
    def screened(self) -> bool:
        """Few keys are not worth the launches, unless the k largest are wanted."""
        return self.topk is not None or self.keys > _triton_shapes.DIRECT_KEYS

    @property
    def capacity(self) -> int:
        return _triton_shapes.capacity(self.topk)

    def shape(self, queries: int) -> _triton_shapes.Tile:
        ragged = self.keys % self.launch.keys != 0
        return _triton_shapes.Tile(queries, self.launch.keys, ragged, self.channels)

    def options(self, **changes: int) -> dict[str, Any]:
        """Launch options; fusing multiply and add is Triton's default, asked for by name."""
        warps, stages = self.launch.warps, self.launch.stages
        return {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True, **changes}

    def query_tiles(self, queries: int) -> int:
        return -(-queries // self.launch.queries)

    def spans(self, programs: int) -> tuple[int, int]:
        """Cut the key tiles so that enough programs run: ``(how many spans, tiles of each)``."""
        wanted = max(1, min(_triton_shapes.PROGRAMS // max(programs, 1), self.tiles // 4))
        span = -(-self.tiles // wanted)
        return -(-self.tiles // span), span

    def stripes(
        self, batch: int, queries: int, bytes_per_query: int
    ) -> Iterator[tuple[slice, slice]]:
        """Cut [B, N] queries so that their scratch memory is bounded; whole images may share it."""
        rows = _triton_shapes.STRIPE_BYTES // bytes_per_query
        rows = max(1, rows // self.launch.screen_queries) * self.launch.screen_queries
        images = max(1, min(rows // queries, 65_535))  # the largest second dimension of a grid
        for b in range(0, batch, images):
            for n in range(0, queries, rows):
                yield slice(b, min(b + images, batch)), slice(n, min(n + rows, queries))


@dataclass(frozen=True)
class _Solved:
    """Thresholds of a stripe, and what finding them has left behind."""

    limits: Tensor  # [b, n, 2]
    cuts: Tensor  # [b, n, 2] low and high of in_support, where truncated
    edges: Tensor  # [b, n]
    scores: Tensor  # [b, n, capacity] candidates, relative to the row's maximum
    indices: Tensor  # [b, n, capacity]
    sizes: Tensor  # [b, n] candidates; in flagged query tiles, elements of the support
    flags: Tensor  # [b, query tiles] candidates don't fit
    lists: Tensor  # [b, query tiles, key tiles]
    visits: Tensor  # [b, query tiles]


def _tiling(query: Tensor, key: Tensor, value: Tensor, topk: int | None) -> _Tiling:
    launch = _triton_shapes.launch_of(query, value)
    channels = _triton_shapes.contraction(query.shape[2], query.dtype)
    return _Tiling(launch, channels, key.shape[1], topk)


def _operand(x: Tensor) -> Tensor:
    """A contiguous tensor of a dtype that kernels multiply."""
    if x.dtype == torch.float64 or (INTERPRETED.value and x.dtype == torch.bfloat16):
        x = x.float()  # the interpreter's products of bfloat16 are garbage, silently
    return x.contiguous()


def _list(hits: Tensor, lines: int, merged: int, transposed: bool = False) -> tuple[Tensor, Tensor]:
    """Turn a map of hits into one list per ``merged`` lines, or per column: lists and visits."""
    batch, rows, columns = hits.shape
    items = columns
    strides = hits.stride()
    if transposed:
        rows, items = columns, rows
        strides = strides[0], strides[2], strides[1]
    lists = torch.empty(batch, lines, items, dtype=torch.int32, device=hits.device)
    visits = torch.empty(batch, lines, dtype=torch.int32, device=hits.device)
    _triton_screen.list_hits[(lines, batch)](
        hits,
        lists,
        visits,
        *strides,
        rows,
        items,
        merged=merged,
        chunk=_triton_shapes.LIST_CHUNK,
        num_warps=4,
        enable_fp_fusion=True,
    )
    return lists, visits


def _screen(tiling: _Tiling, query: Tensor, key: Tensor, limits: Tensor) -> _Solved:
    """Bound every row's kappa and collect the candidates; limits get the rows' maxima."""
    batch, queries, _ = query.shape
    keys, tiles, launch = key.shape[1], tiling.tiles, tiling.launch
    integers = {"dtype": torch.int32, "device": query.device}
    floats = {"dtype": torch.float32, "device": query.device}

    maxima = torch.empty(batch, tiles, queries, **floats)
    programs = -(-queries // launch.screen_queries)
    spans, span = tiling.spans(programs * batch)
    _triton_screen.screen[(programs, spans, batch)](
        query,
        key,
        maxima,
        queries,
        keys,
        tiles,
        span,
        shape=tiling.shape(launch.screen_queries),
        **tiling.options(num_warps=launch.screen_warps),
    )
    groups = -(-queries // _triton_shapes.BOUND_ROWS)
    lower = torch.empty(batch, queries, **floats)
    hits = torch.empty(batch, groups, tiles, dtype=torch.int8, device=query.device)
    _triton_screen.bound[(groups, batch)](
        maxima,
        limits,
        lower,
        hits,
        queries,
        tiles,
        tiling.topk or 0,
        truncated=tiling.topk is not None,
        rows=_triton_shapes.BOUND_ROWS,
        chunk=_triton_shapes.BOUND_CHUNK,
        **tiling.options(),
    )
    query_tiles = tiling.query_tiles(queries)
    lists, visits = _list(hits, query_tiles, launch.queries // _triton_shapes.BOUND_ROWS)
    solved = _Solved(
        limits=limits,
        cuts=lower.new_empty(batch, queries, 2),
        edges=torch.empty(batch, queries, **integers),
        scores=torch.empty(batch, queries, tiling.capacity, **floats),
        indices=torch.empty(batch, queries, tiling.capacity, **integers),
        sizes=torch.empty(batch, queries, **integers),
        flags=torch.empty(batch, query_tiles, **integers),
        lists=lists,
        visits=visits,
    )
    shape = tiling.shape(launch.queries)
    tile_grid = (query_tiles, batch)
    where = (limits, lower, lists, visits)
    _triton_screen.collect[tile_grid](
        query,
        key,
        *where,
        solved.scores,
        solved.indices,
        solved.sizes,
        solved.flags,
        queries,
        keys,
        tiles,
        tiling.capacity,
        shape=shape,
        batch=_triton_shapes.COLLECT_BATCH,
        **tiling.options(num_warps=launch.wide_warps),
    )
    _triton_threshold.select[(queries, batch)](
        solved.scores,
        solved.indices,
        solved.sizes,
        solved.flags,
        lower,
        limits,
        solved.cuts,
        solved.edges,
        queries,
        tiling.topk or 0,
        truncated=tiling.topk is not None,
        capacity=tiling.capacity,
        block_queries=launch.queries,
        **tiling.options(num_warps=max(1, tiling.capacity // 512)),
    )
    flagged = (query, key, *where, solved.sizes, solved.flags)
    _triton_threshold.solve[tile_grid](
        *flagged,
        queries,
        keys,
        tiles,
        screened=True,
        groups=_triton_shapes.GROUPS,
        shape=shape,
        **tiling.options(),
    )
    if tiling.topk is not None:
        _triton_threshold.truncate[tile_grid](
            *flagged,
            solved.cuts,
            solved.edges,
            queries,
            keys,
            tiles,
            tiling.topk,
            shape=shape,
            **tiling.options(),
        )
    return solved


def _solve_all(tiling: _Tiling, query: Tensor, key: Tensor, limits: Tensor) -> _Solved:
    """Solve every row over all tiles; what screening would leave behind stays empty."""
    batch, queries, _ = query.shape
    nothing = torch.empty(0, dtype=torch.int32, device=query.device)
    sizes = torch.empty(batch, queries, dtype=torch.int32, device=query.device)
    solved = _Solved(limits, limits, nothing, limits, nothing, sizes, nothing, nothing, nothing)
    _triton_threshold.solve[(tiling.query_tiles(queries), batch)](
        query,
        key,
        limits,
        limits,
        nothing,
        nothing,
        sizes,
        nothing,
        queries,
        key.shape[1],
        tiling.tiles,
        screened=False,
        groups=_triton_shapes.GROUPS,
        shape=tiling.shape(tiling.launch.queries),
        **tiling.options(),
    )
    return solved


def _apply(
    tiling: _Tiling, query: Tensor, key: Tensor, value: Tensor, solved: _Solved, out: Tensor
) -> None:
    batch, queries, _ = query.shape
    channels = value.shape[2]
    parts = _triton_shapes.slices(channels, value.dtype)
    values = _triton_shapes.accumulation(channels, parts)
    truncated = tiling.topk is not None
    thresholds = (solved.limits, solved.cuts, solved.edges)
    if tiling.screened:
        _triton_apply.gather[(queries, parts, batch)](
            value,
            out,
            *thresholds,
            solved.scores,
            solved.indices,
            solved.sizes,
            solved.flags,
            queries,
            key.shape[1],
            tiling.capacity,
            truncated=truncated,
            block_queries=tiling.launch.queries,
            block=_triton_shapes.GATHER_BLOCK,
            values=values,
            **tiling.options(num_warps=1),
        )
    _triton_apply.multiply[(tiling.query_tiles(queries), parts, batch)](
        query,
        key,
        value,
        out,
        *thresholds,
        solved.lists,
        solved.visits,
        solved.flags,
        queries,
        key.shape[1],
        tiling.tiles,
        screened=tiling.screened,
        truncated=truncated,
        shape=tiling.shape(tiling.launch.queries),
        values=values,
        **tiling.options(),
    )


def forward(
    query: Tensor, key: Tensor, value: Tensor, topk: int | None, width: int, support: Tensor
) -> tuple[Tensor, Tensor]:
    """See ``_backends.Kernel``. Of keys that tie at the k-th place the first ones take part."""
    q, k, v = _operand(query), _operand(key), _operand(value)
    batch, queries, _ = q.shape
    out = v.new_empty(batch, queries, v.shape[2])
    limits = torch.empty(batch, queries, 2, dtype=torch.float32, device=q.device)
    if limits.numel() == 0:
        return out.to(value.dtype), limits
    tiling = _tiling(q, k, v, topk)
    scratch = 4 * tiling.tiles + 8 * tiling.capacity if tiling.screened else 4
    with torch.cuda.device_of(q):
        for b, n in tiling.stripes(batch, queries, scratch):
            threshold = _screen if tiling.screened else _solve_all
            solved = threshold(tiling, q[b, n], k[b], limits[b, n])
            _apply(tiling, q[b, n], k[b], v[b], solved, out[b, n])
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

    With truncation the k-th largest scores are found again too: limits don't tell them.
    """
    q, k, v = _operand(query), _operand(key), _operand(value)
    g = grad.to(v.dtype).contiguous()
    batch, queries, _ = q.shape
    d_query = torch.empty_like(q)
    d_key = torch.zeros(k.shape, dtype=torch.float32, device=k.device)
    d_value = torch.zeros(v.shape, dtype=torch.float32, device=v.device)
    tiling = _tiling(q, k, v, topk)
    scratch = 9 * tiling.tiles // tiling.launch.queries + 1
    if topk is not None:
        scratch += 4 * tiling.tiles + 8 * tiling.capacity
    if limits.numel() > 0:
        with torch.cuda.device_of(q):
            for b, n in tiling.stripes(batch, queries, scratch):
                thresholds = (limits[b, n].contiguous(), limits, limits)
                if topk is not None:
                    again = torch.empty_like(thresholds[0])
                    solved = _screen(tiling, q[b, n], k[b], again)
                    thresholds = (again, solved.cuts, solved.edges)
                operands = (q[b, n], k[b], v[b], g[b, n])
                _gradients(tiling, operands, thresholds, (d_query[b, n], d_key[b], d_value[b]))
    return d_query.to(query.dtype), d_key.to(key.dtype), d_value.to(value.dtype)


def _gradients(
    tiling: _Tiling,
    operands: tuple[Tensor, Tensor, Tensor, Tensor],
    thresholds: tuple[Tensor, Tensor, Tensor],
    gradients: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Fill a stripe's d_query, add its share to d_key and d_value."""
    query, key, value, _ = operands
    d_query, d_key, d_value = gradients
    batch, queries, channels = query.shape
    keys, tiles, launch = key.shape[1], tiling.tiles, tiling.launch
    query_tiles = tiling.query_tiles(queries)
    truncated = tiling.topk is not None
    listed = keys > _triton_shapes.DIRECT_KEYS
    nothing = torch.empty(0, dtype=torch.int32, device=query.device)
    by_query = by_key = (nothing, nothing)
    if listed:
        hits = torch.empty(batch, query_tiles, tiles, dtype=torch.int8, device=query.device)
        programs = -(-queries // launch.screen_queries)
        spans, span = tiling.spans(programs * batch)
        _triton_backward.mark[(programs, spans, batch)](
            query,
            key,
            *thresholds,
            hits,
            queries,
            keys,
            tiles,
            span,
            truncated=truncated,
            shape=tiling.shape(launch.screen_queries),
            block_queries=launch.queries,
            **tiling.options(num_warps=launch.screen_warps),
        )
        by_query = _list(hits, query_tiles, 1)
        by_key = _list(hits, tiles, 1, transposed=True)
    means = torch.empty(batch, queries, dtype=torch.float32, device=query.device)
    shape = tiling.shape(launch.queries)
    values = _triton_shapes.contraction(value.shape[2], value.dtype)
    stages = _triton_shapes.gradient_stages(launch, tiling.channels, values)
    parts = _triton_shapes.slices(channels, query.dtype)
    _triton_backward.grad_query[(query_tiles, parts, batch)](
        *operands,
        d_query,
        *thresholds,
        means,
        *by_query,
        queries,
        keys,
        tiles,
        listed=listed,
        truncated=truncated,
        shape=shape,
        values=values,
        outputs=_triton_shapes.accumulation(channels, parts),
        **tiling.options(num_stages=stages),
    )
    parts = max(parts, _triton_shapes.slices(value.shape[2], value.dtype))
    _triton_backward.grad_keys[(tiles, parts, batch)](
        *operands,
        d_key,
        d_value,
        *thresholds,
        means,
        *by_key,
        queries,
        keys,
        query_tiles,
        listed=listed,
        truncated=truncated,
        shape=shape,
        values=values,
        key_outputs=_triton_shapes.accumulation(channels, parts),
        value_outputs=_triton_shapes.accumulation(value.shape[2], parts),
        **tiling.options(num_warps=launch.wide_warps, num_stages=stages),
    )

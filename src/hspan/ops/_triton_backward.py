# type: ignore
# Written in Triton's language, which a checker of Python types cannot follow.
"""Gradients, Eq. (19), from known thresholds: scores are computed again, tile by tile.

With P the weights and r = dOut·Vᵀ, on a row's support dS = r - mean of r over it, elsewhere 0; then
dQ = dS·K, dK = dSᵀ·Q, dV = Pᵀ·dOut.

    mark         which tiles hold elements of the support at all
    grad_query   a query tile over its key tiles: the mean first, then dQ
    grad_keys    a key tile over its query tiles: dK and dV

Every output belongs to one program: no atomics, the same bits every time. A row without a threshold
gets NaN in dQ and adds nothing to dK and dV.
"""

import triton
import triton.language as tl

from hspan.ops._triton_tiles import (
    accumulate,
    accumulators,
    in_support,
    load_cut,
    load_limits,
    products,
    resident,
    slice_start,
    store_sums,
    tile_at,
    tile_scores,
    undefine,
)


@triton.jit
def _part_of_tile(
    query, key_ptr, tile, keys, row_state, shape: tl.constexpr, truncated: tl.constexpr
):
    """Which scores of a tile are in the support: [queries, keys]."""
    block: tl.constexpr = shape.keys
    top, kappa, low, high, edge = row_state
    scores = tile_scores(query, key_ptr, tile, keys, shape) - top[:, None]
    index = (tile * block + tl.arange(0, block))[None, :]
    return in_support(
        scores, index, kappa[:, None], low[:, None], high[:, None], edge[:, None], truncated
    )


@triton.jit
def mark(
    query_ptr,
    key_ptr,
    limits_ptr,
    cuts_ptr,
    edges_ptr,
    hits_ptr,
    queries,
    keys,
    tiles,
    span,
    truncated: tl.constexpr,
    shape: tl.constexpr,
    block_queries: tl.constexpr,
):
    """Write hits [B, N / block_queries, tiles]; program (query tile, span of key tiles, image)."""
    contraction: tl.constexpr = shape.channels
    rows: tl.constexpr = shape.queries
    image = tl.program_id(2).to(tl.int64)
    key_ptr += image * keys * contraction.count
    query_ptr += image * queries * contraction.count
    first = tl.program_id(0) * rows
    row = first + tl.arange(0, rows)
    line = image * queries + row
    top, kappa = load_limits(limits_ptr, line, row < queries)
    low, high, edge = load_cut(cuts_ptr, edges_ptr, line, kappa, row < queries, truncated)
    query = resident(query_ptr, first, queries, contraction, rows)
    blocks: tl.constexpr = rows // block_queries
    lines = tl.cdiv(queries, block_queries)
    block = tl.program_id(0) * blocks + tl.arange(0, blocks)
    hits_ptr += (image * lines + block) * tiles
    start = tl.program_id(1) * span
    for tile in tl.range(start, tl.minimum(start + span, tiles)):
        row_state = top, kappa, low, high, edge
        part = _part_of_tile(query, key_ptr, tile, keys, row_state, shape, truncated)
        hit = tl.max(tl.reshape(tl.max(part.to(tl.int32), 1), (blocks, block_queries)), 1)
        tl.store(hits_ptr + tile, hit.to(tl.int8), block < lines)


@triton.jit
def grad_query(
    query_ptr,
    key_ptr,
    value_ptr,
    grad_ptr,
    out_ptr,
    limits_ptr,
    cuts_ptr,
    edges_ptr,
    means_ptr,
    list_ptr,
    visits_ptr,
    queries,
    keys,
    tiles,
    listed: tl.constexpr,
    truncated: tl.constexpr,
    shape: tl.constexpr,
    values: tl.constexpr,
    outputs: tl.constexpr,
):
    """Write dQ [B, N, C] and means [B, N] of r; program (query tile, slice of C, image)."""
    contraction: tl.constexpr = shape.channels
    rows: tl.constexpr = shape.queries
    block: tl.constexpr = shape.keys
    image = tl.program_id(2).to(tl.int64)
    output = image * tl.num_programs(0) + tl.program_id(0)
    visits = tiles
    if listed:
        list_ptr += output * tiles
        visits = tl.load(visits_ptr + output)
    key_ptr += image * keys * contraction.count
    query_ptr += image * queries * contraction.count
    value_ptr += image * keys * values.count
    grad_ptr += image * queries * values.count
    out_ptr += image * queries * contraction.count
    first = tl.program_id(0) * rows
    row = first + tl.arange(0, rows)
    line = image * queries + row
    top, kappa = load_limits(limits_ptr, line, row < queries)
    low, high, edge = load_cut(cuts_ptr, edges_ptr, line, kappa, row < queries, truncated)
    query = resident(query_ptr, first, queries, contraction, rows)
    grad = resident(grad_ptr, first, queries, values, rows)

    total = tl.zeros((rows,), tl.float32)
    size = tl.zeros((rows,), tl.float32)
    for i in tl.range(0, visits):
        tile = tile_at(list_ptr, i, listed)
        row_state = top, kappa, low, high, edge
        part = _part_of_tile(query, key_ptr, tile, keys, row_state, shape, truncated)
        r = products(grad, value_ptr, tile * block, keys, values, rows, block)
        total += tl.sum(tl.where(part, r, 0.0), 1)
        size += tl.sum(part.to(tl.float32), 1)
    mean = total / tl.maximum(size, 1.0)
    if tl.program_id(1) == 0:
        tl.store(means_ptr + line, mean, row < queries)

    start = slice_start(outputs)
    sums = accumulators(outputs, rows)
    for i in tl.range(0, visits):
        tile = tile_at(list_ptr, i, listed)
        row_state = top, kappa, low, high, edge
        part = _part_of_tile(query, key_ptr, tile, keys, row_state, shape, truncated)
        r = products(grad, value_ptr, tile * block, keys, values, rows, block)
        d_scores = tl.where(part, r - mean[:, None], 0.0)
        sums = accumulate(sums, d_scores, key_ptr, tile * block, keys, start, outputs, block)
    sums = undefine(sums, (kappa == kappa)[:, None], outputs)
    store_sums(out_ptr, sums, first, queries, start, outputs, False)


@triton.jit
def grad_keys(
    query_ptr,
    key_ptr,
    value_ptr,
    grad_ptr,
    d_key_ptr,
    d_value_ptr,
    limits_ptr,
    cuts_ptr,
    edges_ptr,
    means_ptr,
    list_ptr,
    visits_ptr,
    queries,
    keys,
    tiles,
    listed: tl.constexpr,
    truncated: tl.constexpr,
    shape: tl.constexpr,
    values: tl.constexpr,
    key_outputs: tl.constexpr,
    value_outputs: tl.constexpr,
):
    """Add to dK [B, M, C] and dV [B, M, D]; program (key tile, slice of both, image).

    Scores and r are formed transposed, [keys, queries], as the products that follow want them.
    ``tiles`` counts query tiles.
    """
    contraction: tl.constexpr = shape.channels
    rows: tl.constexpr = shape.keys
    block: tl.constexpr = shape.queries
    image = tl.program_id(2).to(tl.int64)
    output = image * tl.num_programs(0) + tl.program_id(0)
    visits = tiles
    if listed:
        list_ptr += output * tiles
        visits = tl.load(visits_ptr + output)
    key_ptr += image * keys * contraction.count
    query_ptr += image * queries * contraction.count
    value_ptr += image * keys * values.count
    grad_ptr += image * queries * values.count
    d_key_ptr += image * keys * contraction.count
    d_value_ptr += image * keys * values.count
    first = tl.program_id(0) * rows
    index = (first + tl.arange(0, rows))[:, None]
    key = resident(key_ptr, first, keys, contraction, rows)
    value = resident(value_ptr, first, keys, values, rows)
    key_start = slice_start(key_outputs)
    value_start = slice_start(value_outputs)
    d_key = accumulators(key_outputs, rows)
    d_value = accumulators(value_outputs, rows)
    for i in tl.range(0, visits):
        start = tile_at(list_ptr, i, listed) * block
        row = start + tl.arange(0, block)
        line = image * queries + row
        top, kappa = load_limits(limits_ptr, line, row < queries)
        low, high, edge = load_cut(cuts_ptr, edges_ptr, line, kappa, row < queries, truncated)
        mean = tl.load(means_ptr + line, row < queries, other=0.0)
        scores = products(key, query_ptr, start, queries, contraction, rows, block)
        scores -= top[None, :]
        part = in_support(
            scores,
            index,
            kappa[None, :],
            low[None, :],
            high[None, :],
            edge[None, :],
            truncated,
        )
        weights = tl.where(part, scores - kappa[None, :], 0.0)
        d_value = accumulate(
            d_value, weights, grad_ptr, start, queries, value_start, value_outputs, block
        )
        r = products(value, grad_ptr, start, queries, values, rows, block)
        d_scores = tl.where(part, r - mean[None, :], 0.0)
        d_key = accumulate(
            d_key, d_scores, query_ptr, start, queries, key_start, key_outputs, block
        )
    store_sums(d_key_ptr, d_key, first, keys, key_start, key_outputs, True)
    store_sums(d_value_ptr, d_value, first, keys, value_start, value_outputs, True)

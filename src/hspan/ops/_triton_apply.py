# type: ignore
# Written in Triton's language, which a checker of Python types cannot follow.
"""Output: the values that the weights ``max(s - kappa, 0)`` mix; NaN in rows without a threshold.

gather    rows whose candidates fit the buffer, value by value
multiply  the other query tiles: weights formed on the chip, multiplied with whole tiles
"""

import triton
import triton.language as tl

from hspan.ops._triton_tiles import (
    accumulate,
    accumulators,
    in_support,
    load_cut,
    load_limits,
    resident,
    slice_start,
    store_sums,
    tile_at,
    tile_scores,
    undefine,
)


@triton.jit
def _weighted(base, weights, index, start, channels: tl.constexpr, width: tl.constexpr):
    """Values of keys ``index`` times their weights: [keys, width]."""
    column = start + tl.arange(0, width)
    used = (weights > 0.0)[:, None] & (column < channels)[None, :]
    places = index.to(tl.int64)[:, None] * channels + column[None, :]
    return weights[:, None] * tl.load(base + places, used, other=0.0).to(tl.float32)


@triton.jit
def _total(products):
    return tl.sum(products, 0)[None, :]


@triton.jit
def gather(
    value_ptr,
    out_ptr,
    limits_ptr,
    cuts_ptr,
    edges_ptr,
    scores_ptr,
    indices_ptr,
    sizes_ptr,
    flags_ptr,
    queries,
    keys,
    capacity,
    truncated: tl.constexpr,
    block_queries: tl.constexpr,
    block: tl.constexpr,
    values: tl.constexpr,
):
    """Write out [B, N, D] of one row, unless its tile is flagged; program (row, slice, image)."""
    channels: tl.constexpr = values.count
    wide: tl.constexpr = values.wide
    narrow: tl.constexpr = values.narrow
    image = tl.program_id(2).to(tl.int64)
    row = tl.program_id(0)
    line = image * queries + row
    count = tl.load(sizes_ptr + line)
    if tl.load(flags_ptr + image * tl.cdiv(queries, block_queries) + row // block_queries) != 0:
        return
    value_ptr += image * keys * channels
    kappa = tl.load(limits_ptr + line * 2 + 1)
    low, high, edge = load_cut(cuts_ptr, edges_ptr, line, kappa, True, truncated)
    start = slice_start(values)
    one, two = accumulators(values, block)
    for first in tl.range(0, count, block):
        place = first + tl.arange(0, block)
        valid = place < count
        scores = tl.load(scores_ptr + line * capacity + place, valid, other=-float("inf"))
        index = tl.load(indices_ptr + line * capacity + place, valid, other=0)
        inside = in_support(scores, index, kappa, low, high, edge, truncated)
        weights = tl.where(inside, scores - kappa, 0.0)
        one += _weighted(value_ptr, weights, index, start, channels, wide)
        if narrow > 0:
            two += _weighted(value_ptr, weights, index, start + wide, channels, narrow)
    one = _total(one)
    if narrow > 0:
        two = _total(two)
    sums = undefine((one, two), kappa == kappa, values)
    store_sums(out_ptr + image * queries * channels, sums, row, queries, start, values, False)


@triton.jit
def multiply(
    query_ptr,
    key_ptr,
    value_ptr,
    out_ptr,
    limits_ptr,
    cuts_ptr,
    edges_ptr,
    list_ptr,
    visits_ptr,
    flags_ptr,
    queries,
    keys,
    tiles,
    screened: tl.constexpr,
    truncated: tl.constexpr,
    shape: tl.constexpr,
    values: tl.constexpr,
):
    """Write out [B, N, D] of one query tile; program (query tile, slice, image).

    Screened: of a flagged one only, over listed key tiles.
    """
    contraction: tl.constexpr = shape.channels
    rows: tl.constexpr = shape.queries
    block: tl.constexpr = shape.keys
    image = tl.program_id(2).to(tl.int64)
    output = image * tl.num_programs(0) + tl.program_id(0)
    visits = tiles
    if screened:
        list_ptr += output * tiles
        visits = tl.load(visits_ptr + output)
        if tl.load(flags_ptr + output) == 0:
            return
    key_ptr += image * keys * contraction.count
    query_ptr += image * queries * contraction.count
    value_ptr += image * keys * values.count
    first = tl.program_id(0) * rows
    row = first + tl.arange(0, rows)
    line = image * queries + row
    top, kappa = load_limits(limits_ptr, line, row < queries)
    low, high, edge = load_cut(cuts_ptr, edges_ptr, line, kappa, row < queries, truncated)
    start = slice_start(values)
    query = resident(query_ptr, first, queries, contraction, rows)
    sums = accumulators(values, rows)
    for i in tl.range(0, visits):
        tile = tile_at(list_ptr, i, screened)
        scores = tile_scores(query, key_ptr, tile, keys, shape) - top[:, None]
        index = tile * block + tl.arange(0, block)
        part = in_support(
            scores,
            index[None, :],
            kappa[:, None],
            low[:, None],
            high[:, None],
            edge[:, None],
            truncated,
        )
        weights = tl.where(part, scores - kappa[:, None], 0.0)
        sums = accumulate(sums, weights, value_ptr, tile * block, keys, start, values, block)
    sums = undefine(sums, (kappa == kappa)[:, None], values)
    out_ptr += image * queries * values.count
    store_sums(out_ptr, sums, first, queries, start, values, False)

# type: ignore
# Written in Triton's language, which a checker of Python types cannot follow.
"""Screening: from the maxima of key tiles to a few candidates per query, exactly.

kappa of any subset of a row's scores never exceeds the row's kappa, and Newton's iteration from
below never overshoots. The maxima of key tiles are such a subset: some steps on them bound kappa
from below, and only tiles whose maximum reaches the bound can hold elements of the support.

    screen     Q·Kᵀ tile by tile, of which only a maximum per query and key tile is kept
    bound      a lower bound of kappa per query, and the map of who reaches it where
    list_hits  the map as one ascending list of key tiles per query tile
    collect    listed tiles computed again: scores that reach the bound become candidates

With truncation to k, the k-th largest maximum never exceeds the k-th largest score, so it is a
bound too. Nothing is atomic: every row belongs to one program.
"""

import triton
import triton.language as tl

from hspan.ops._triton_tiles import is_finite, nan_maximum, resident, row_maximum, tile_scores

_NEWTON_STEPS = tl.constexpr(8)  # every one gives a bound; later ones hardly raise it
_BISECTION_STEPS = tl.constexpr(12)  # towards the k-th largest maximum
# Kernels may sum a score in different orders. The bound gives way by the last digits of the row's
# largest score; a candidate that this admits in vain costs only its place.
_SLACK = tl.constexpr(2.0**-19)


@triton.jit
def screen(query_ptr, key_ptr, maxima_ptr, queries, keys, tiles, span, shape: tl.constexpr):
    """Write maxima [B, tiles, N]; program (query tile, span of key tiles, image)."""
    contraction: tl.constexpr = shape.channels
    rows: tl.constexpr = shape.queries
    image = tl.program_id(2).to(tl.int64)
    key_ptr += image * keys * contraction.count
    query_ptr += image * queries * contraction.count
    first = tl.program_id(0) * rows
    row = first + tl.arange(0, rows)
    maxima_ptr += image * tiles * queries + row
    query = resident(query_ptr, first, queries, contraction, rows)
    start = tl.program_id(1) * span
    for tile in tl.range(start, tl.minimum(start + span, tiles)):
        highest = row_maximum(tile_scores(query, key_ptr, tile, keys, shape))
        place = tile * queries
        tl.store(maxima_ptr + place, highest, row < queries)


@triton.jit
def _maxima(maxima_ptr, row, queries, first, tiles, top, chunk: tl.constexpr):
    """Maxima of ``chunk`` key tiles relative to ``top``: [rows, chunk]."""
    tile = first + tl.arange(0, chunk)
    inside = (row < queries)[:, None] & (tile < tiles)[None, :]
    places = row[:, None] + tile[None, :] * queries
    return tl.load(maxima_ptr + places, inside, other=-float("inf")) - top[:, None]


@triton.jit
def bound(
    maxima_ptr,
    limits_ptr,
    lower_ptr,
    hits_ptr,
    queries,
    tiles,
    topk,
    truncated: tl.constexpr,
    rows: tl.constexpr,
    chunk: tl.constexpr,
):
    """Write each row's maximum (of limits [B, N, 2]), lower [B, N] and hits [B, N / rows, tiles].

    ``lower`` is relative to the row's maximum; NaN where the row has no threshold. Every step reads
    the maxima anew: those of a program's few rows stay in its cache.
    """
    image = tl.program_id(1).to(tl.int64)
    group = tl.program_id(0)
    row = group * rows + tl.arange(0, rows)
    inside = row < queries
    maxima_ptr += image * tiles * queries

    # Chunks are combined element by element; a row is reduced once.
    zero = tl.zeros((rows,), tl.float32)
    zeros = tl.zeros((rows, chunk), tl.float32)
    highest = zeros - float("inf")
    for first in tl.range(0, tiles, chunk):
        part = _maxima(maxima_ptr, row, queries, first, tiles, zero, chunk)
        highest = nan_maximum(highest, part)
    top = row_maximum(highest)
    tl.store(limits_ptr + (image * queries + row) * 2, top, inside)
    defined = is_finite(top)
    top = tl.where(defined, top, 0.0)

    lower = zero - 1.0
    for _ in tl.range(0, _NEWTON_STEPS):
        size = zeros
        total = zeros
        for first in tl.range(0, tiles, chunk):
            excess = _maxima(maxima_ptr, row, queries, first, tiles, top, chunk) - lower[:, None]
            size += (excess > 0.0).to(tl.float32)
            total += tl.where(excess > 0.0, excess, 0.0)
        step = (tl.sum(total, 1) - 1.0) / tl.maximum(tl.sum(size, 1), 1.0)
        lower = tl.maximum(lower, lower + step)
    if truncated:
        upper = zero
        for _ in tl.range(0, _BISECTION_STEPS):
            middle = (lower + upper) * 0.5
            count = zeros
            for first in tl.range(0, tiles, chunk):
                shifted = _maxima(maxima_ptr, row, queries, first, tiles, top, chunk)
                count += (shifted >= middle[:, None]).to(tl.float32)
            enough = tl.sum(count, 1) >= topk
            lower = tl.where(enough, middle, lower)
            upper = tl.where(enough, upper, middle)
    lower = tl.where(defined, lower - _SLACK * (1.0 + tl.abs(top)), float("nan"))
    tl.store(lower_ptr + image * queries + row, lower, inside)

    hits_ptr += (image * tl.num_programs(0) + group) * tiles
    for first in tl.range(0, tiles, chunk):
        shifted = _maxima(maxima_ptr, row, queries, first, tiles, top, chunk)
        hit = (shifted >= lower[:, None]) & inside[:, None]
        tile = first + tl.arange(0, chunk)
        tl.store(hits_ptr + tile, tl.max(hit.to(tl.int32), 0).to(tl.int8), tile < tiles)


@triton.jit
def list_hits(
    hits_ptr,
    list_ptr,
    visits_ptr,
    image_stride,
    line_stride,
    item_stride,
    lines,
    items,
    merged: tl.constexpr,
    chunk: tl.constexpr,
):
    """List [B, L, items] what the lines of a map hit, ascending; visits [B, L] counts it.

    ``merged`` neighbouring lines of the map share a list. The strides say which way to read it.
    """
    image = tl.program_id(1).to(tl.int64)
    output = image * tl.num_programs(0) + tl.program_id(0)
    line = tl.program_id(0) * merged + tl.arange(0, merged)
    hits_ptr += image * image_stride + line.to(tl.int64)[:, None] * line_stride
    count = tl.zeros((), tl.int32)
    for first in tl.range(0, items, chunk):
        item = first + tl.arange(0, chunk)
        inside = (line < lines)[:, None] & (item < items)[None, :]
        hit = tl.load(hits_ptr + item[None, :] * item_stride, inside, other=0)
        hit = tl.max(hit.to(tl.int32), 0)
        place = count + tl.cumsum(hit, 0) - hit
        tl.store(list_ptr + output * items + place, item, hit > 0)
        count += tl.sum(hit, 0)
    tl.store(visits_ptr + output, count)


@triton.jit
def collect(
    query_ptr,
    key_ptr,
    limits_ptr,
    lower_ptr,
    list_ptr,
    visits_ptr,
    scores_ptr,
    indices_ptr,
    sizes_ptr,
    flags_ptr,
    queries,
    keys,
    tiles,
    capacity,
    shape: tl.constexpr,
    batch: tl.constexpr,
):
    """Write each row's candidates, ascending by key: scores and indices [B, N, capacity].

    A row with more than ``capacity`` of them flags its query tile, which then stops at the end of a
    ``batch`` of key tiles; so does a row whose candidates rounding has taken away.
    """
    contraction: tl.constexpr = shape.channels
    rows: tl.constexpr = shape.queries
    image = tl.program_id(1).to(tl.int64)
    output = image * tl.num_programs(0) + tl.program_id(0)
    key_ptr += image * keys * contraction.count
    query_ptr += image * queries * contraction.count
    first = tl.program_id(0) * rows
    row = first + tl.arange(0, rows)
    inside = row < queries
    line = image * queries + row
    lower = tl.load(lower_ptr + line, inside, other=float("nan"))
    defined = lower == lower
    top = tl.load(limits_ptr + line * 2, defined, other=0.0)
    query = resident(query_ptr, first, queries, contraction, rows)
    list_ptr += output * tiles
    visits = tl.load(visits_ptr + output)
    size = tl.zeros((rows,), tl.int32)
    start = tl.zeros((), tl.int32)
    while start < visits:
        for i in tl.range(start, tl.minimum(start + batch, visits)):
            tile = tl.load(list_ptr + i)
            scores = tile_scores(query, key_ptr, tile, keys, shape) - top[:, None]
            chosen = (scores >= lower[:, None]).to(tl.int32)
            rank = size[:, None] + tl.cumsum(chosen, 1) - chosen
            kept = (chosen > 0) & (rank < capacity)
            place = line[:, None] * capacity + rank
            index = tile * shape.keys + tl.arange(0, shape.keys)
            tl.store(scores_ptr + place, scores, kept)
            tl.store(indices_ptr + place, tl.broadcast_to(index[None, :], place.shape), kept)
            size += tl.sum(chosen, 1)
        start = tl.where(tl.max(size, 0) > capacity, visits, start + batch)
    tl.store(sizes_ptr + line, size, inside)
    failed = (size > capacity) | (defined & (size == 0))
    tl.store(flags_ptr + output, tl.max(failed.to(tl.int32), 0))

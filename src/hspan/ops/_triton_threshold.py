# type: ignore
# Written in Triton's language, which a checker of Python types cannot follow.
"""Thresholds: kappa of Eq. (12) for every row, on its candidates or over whole tiles.

    select    a row whose candidates fit the buffer, in registers
    solve     query tiles that hold rows with too many (dense rows, ties), or all where nothing was
              screened: the same iteration, each pass over computed tiles
    truncate  the same query tiles once more, for the k largest scores

With truncation to k either the support has at most k elements, and is the exact one, or it is the k
largest scores, all of them: kappa of the k largest lies below kappa of all, hence below the k-th.
So kappa comes first, and only rows of which at least k scores exceed it look for their k-th largest
score, by its bits. (Exactly k may be k of more: the bound from the k-th largest maximum has kept
the rest out.) Of keys that tie there, those with the smallest index take part.

Scores are relative to their row's maximum. ``cuts`` [B, N, 2] and ``edges`` [B, N] hold low, high
and edge of ``_triton_tiles.in_support``.
"""

import triton
import triton.language as tl

from hspan.ops._triton_tiles import (
    is_finite,
    nan_maximum,
    resident,
    row_maximum,
    tile_at,
    tile_scores,
)

_GROUP_STEPS = tl.constexpr(8)  # of Newton on maxima; every one gives a bound
_MAX_PASSES = tl.constexpr(100)  # supports settle in 4-10; guards a loop that rounding keeps alive


@triton.jit
def _newton(kappa, total, size, previous):
    """One step from the sum and the count of what exceeds kappa.

    A support that no longer changes admits a step down too. That corrects kappa's last digits: what
    exceeds it now sums to nearly 1, and rounds accordingly, which large supports need.
    """
    moved = kappa + (total - 1.0) / tl.maximum(size, 1).to(tl.float32)
    return tl.where(size == previous, moved, tl.maximum(kappa, moved))


@triton.jit
def _bits(distance):
    """Distances from the maximum as integers of the same order."""
    return tl.maximum(distance, 0.0).to(tl.int32, bitcast=True)


@triton.jit
def _distance(bits):
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _store_cut(cuts_ptr, edges_ptr, line, low, high, edge, mask):
    tl.store(cuts_ptr + line * 2, low, mask)
    tl.store(cuts_ptr + line * 2 + 1, high, mask)
    tl.store(edges_ptr + line, edge, mask)


@triton.jit
def _cut(kth, before, within, after, tied):
    """Limits halfway to the neighbouring scores, of which the distances from the maximum are given.

    ``before`` is the last one nearer than ``kth`` (negative: none), ``within`` the last one that
    takes part, ``after`` the first one that doesn't; ``tied`` tells that keys at ``kth`` do both.
    Limits themselves are excluded; neighbours may be so close that halfway rounds to one of them.
    """
    low = (within + after) * -0.5
    low = tl.where(low == 0.0 - within, 0.0 - after, low)
    high = tl.where(before < 0.0, 1.0, (before + kth) * -0.5)
    high = tl.where(high == 0.0 - before, 0.0 - kth, high)
    return low, tl.where(tied, high, low)


@triton.jit
def select(
    scores_ptr,
    indices_ptr,
    sizes_ptr,
    flags_ptr,
    lower_ptr,
    limits_ptr,
    cuts_ptr,
    edges_ptr,
    queries,
    topk,
    truncated: tl.constexpr,
    capacity: tl.constexpr,
    block_queries: tl.constexpr,
):
    """Solve one row on its candidates, unless its query tile is flagged; program (row, image)."""
    image = tl.program_id(1).to(tl.int64)
    line = image * queries + tl.program_id(0)
    block = image * tl.cdiv(queries, block_queries) + tl.program_id(0) // block_queries
    count = tl.load(sizes_ptr + line)
    if tl.load(flags_ptr + block) != 0:
        return
    place = tl.arange(0, capacity)
    valid = place < count
    scores = tl.load(scores_ptr + line * capacity + place, valid, other=-float("inf"))
    lower = tl.load(lower_ptr + line)
    kappa = lower
    size = tl.zeros((), tl.int32)
    previous = size - 1
    passes = size
    while (size != previous) & (passes < _MAX_PASSES):
        previous = size
        excess = scores - kappa
        size = tl.sum((excess > 0.0).to(tl.int32), 0)
        total = tl.sum(tl.where(excess > 0.0, excess, 0.0), 0)
        kappa = _newton(kappa, total, size, previous)
        passes += 1
    if truncated:
        low = kappa
        high = kappa
        edge = size * 0 - 1
        if size >= topk:
            distance = 0.0 - scores
            bits = _bits(distance)
            kth = size * 0
            for digit in tl.static_range(0, 31):  # the largest with fewer than k before it
                trial = kth | (1 << (30 - digit))
                kth = tl.where(tl.sum((bits < trial).to(tl.int32), 0) < topk, trial, kth)
            nearer = bits < kth
            ties = bits == kth
            admitted = tl.cumsum(ties.to(tl.int32), 0) <= topk - tl.sum(nearer.to(tl.int32), 0)
            indices = tl.load(indices_ptr + line * capacity + place, valid, other=-1)
            edge = tl.max(tl.where(ties & admitted, indices, -1), 0)
            before = tl.max(tl.where(nearer, distance, -1.0), 0)
            after = tl.min(tl.where(bits > kth, distance, float("inf")), 0)
            after = tl.minimum(after, 0.0 - lower)  # scores below the bound are no candidates
            within = _distance(kth)
            low, high = _cut(within, before, within, after, True)
            inside = nearer | (ties & admitted)
            for _ in tl.static_range(2):  # the support is fixed: one step lands, one corrects
                total = tl.sum(tl.where(inside, scores - kappa, 0.0), 0)
                kappa += (total - 1.0) / topk
        _store_cut(cuts_ptr, edges_ptr, line, low, high, edge, True)
    # Without candidates there is no threshold: scores are NaN or infinite.
    tl.store(limits_ptr + line * 2 + 1, tl.where(count > 0, kappa, float("nan")))


@triton.jit
def _group_maxima(query, key_ptr, keys, tiles, shape: tl.constexpr, groups: tl.constexpr):
    """Maxima of groups of keys whose tiles are ``groups`` apart: [queries, groups]."""
    rows: tl.constexpr = shape.queries
    maxima = tl.zeros((rows, groups), tl.float32) - float("inf")
    group = tl.arange(0, groups)[None, :]
    for tile in tl.range(0, tiles):
        highest = row_maximum(tile_scores(query, key_ptr, tile, keys, shape))
        raised = nan_maximum(maxima, highest[:, None])
        maxima = tl.where(group == tile % groups, raised, maxima)
    return maxima


@triton.jit
def solve(
    query_ptr,
    key_ptr,
    limits_ptr,
    lower_ptr,
    list_ptr,
    visits_ptr,
    sizes_ptr,
    flags_ptr,
    queries,
    keys,
    tiles,
    screened: tl.constexpr,
    groups: tl.constexpr,
    shape: tl.constexpr,
):
    """Write limits [B, N, 2] and support sizes [B, N] of one query tile; program (tile, image).

    Screened: of a flagged one only, from its bound on, over listed key tiles. Otherwise over all of
    them, and a first pass finds the maximum and a bound.
    """
    contraction: tl.constexpr = shape.channels
    rows: tl.constexpr = shape.queries
    image = tl.program_id(1).to(tl.int64)
    block = image * tl.num_programs(0) + tl.program_id(0)
    key_ptr += image * keys * contraction.count
    query_ptr += image * queries * contraction.count
    first = tl.program_id(0) * rows
    row = first + tl.arange(0, rows)
    inside = row < queries
    line = image * queries + row
    visits = tiles
    if screened:
        list_ptr += block * tiles
        visits = tl.load(visits_ptr + block)
        if tl.load(flags_ptr + block) == 0:
            return
    query = resident(query_ptr, first, queries, contraction, rows)
    if screened:
        kappa = tl.load(lower_ptr + line, inside, other=float("nan"))
        defined = kappa == kappa
        top = tl.load(limits_ptr + line * 2, defined, other=0.0)
    else:
        maxima = _group_maxima(query, key_ptr, keys, tiles, shape, groups)
        top = row_maximum(maxima)
        tl.store(limits_ptr + line * 2, top, inside)
        defined = is_finite(top) & inside
        top = tl.where(defined, top, 0.0)
        kappa = tl.zeros((rows,), tl.float32) - 1.0
        for _ in tl.range(0, _GROUP_STEPS):
            excess = maxima - top[:, None] - kappa[:, None]
            size = tl.sum((excess > 0.0).to(tl.float32), 1)
            total = tl.sum(tl.where(excess > 0.0, excess, 0.0), 1)
            kappa = tl.maximum(kappa, kappa + (total - 1.0) / tl.maximum(size, 1.0))
        kappa = tl.where(defined, kappa, float("nan"))

    size = tl.zeros((rows,), tl.int32)
    changed = tl.zeros((), tl.int32) + 1
    passes = tl.zeros((), tl.int32)
    while (changed > 0) & (passes < _MAX_PASSES):
        previous = size
        size = tl.zeros((rows,), tl.int32)
        total = tl.zeros((rows,), tl.float32)
        for i in tl.range(0, visits):
            tile = tile_at(list_ptr, i, screened)
            scores = tile_scores(query, key_ptr, tile, keys, shape)
            excess = scores - top[:, None] - kappa[:, None]
            size += tl.sum((excess > 0.0).to(tl.int32), 1)
            total += tl.sum(tl.where(excess > 0.0, excess, 0.0), 1)
        kappa = tl.where(defined, _newton(kappa, total, size, previous), kappa)
        changed = tl.max((size != previous).to(tl.int32), 0)
        passes += 1
    tl.store(limits_ptr + line * 2 + 1, tl.where(size > 0, kappa, float("nan")), inside)
    tl.store(sizes_ptr + line, size, inside)


@triton.jit
def truncate(
    query_ptr,
    key_ptr,
    limits_ptr,
    lower_ptr,
    list_ptr,
    visits_ptr,
    sizes_ptr,
    flags_ptr,
    cuts_ptr,
    edges_ptr,
    queries,
    keys,
    tiles,
    topk,
    shape: tl.constexpr,
):
    """Cut supports of a flagged query tile that exceed k down to it; follows ``solve``."""
    contraction: tl.constexpr = shape.channels
    rows: tl.constexpr = shape.queries
    image = tl.program_id(1).to(tl.int64)
    block = image * tl.num_programs(0) + tl.program_id(0)
    if tl.load(flags_ptr + block) == 0:
        return
    key_ptr += image * keys * contraction.count
    query_ptr += image * queries * contraction.count
    first = tl.program_id(0) * rows
    row = first + tl.arange(0, rows)
    inside = row < queries
    line = image * queries + row
    list_ptr += block * tiles
    visits = tl.load(visits_ptr + block)
    size = tl.load(sizes_ptr + line, inside, other=0)
    kappa = tl.load(limits_ptr + line * 2 + 1, inside, other=0.0)
    lower = tl.load(lower_ptr + line, inside, other=0.0)
    long = size >= topk
    top = tl.load(limits_ptr + line * 2, long, other=0.0)
    query = resident(query_ptr, first, queries, contraction, rows)

    # Fewer than k scores are as near as ``least``, at least k as near as ``most``.
    most = tl.where(long, _bits(0.0 - lower), 0)
    least = tl.where(long, -1, most - 1)
    while tl.max(most - least, 0) > 1:
        middle = least + (most - least) // 2
        reached = tl.zeros((rows,), tl.int32)
        for i in tl.range(0, visits):
            tile = tl.load(list_ptr + i)
            scores = tile_scores(query, key_ptr, tile, keys, shape)
            reached += tl.sum((_bits(top[:, None] - scores) <= middle[:, None]).to(tl.int32), 1)
        settled = (most - least <= 1) | (reached == topk)  # exactly k: no need to meet a score
        enough = reached >= topk
        most = tl.where((most - least > 1) & enough, middle, most)
        least = tl.where(settled, most - 1, tl.where(enough, least, middle))
    kth = most

    # Who is nearer than the k-th, how many tie with it, and the neighbours on both sides.
    zero = tl.zeros((rows,), tl.float32)
    nearer = tl.zeros((rows,), tl.int32)
    ties = nearer
    before = zero - 1.0
    within = zero
    after = 0.0 - lower
    for i in tl.range(0, visits):
        tile = tl.load(list_ptr + i)
        distance = top[:, None] - tile_scores(query, key_ptr, tile, keys, shape)
        bits = _bits(distance)
        nearer += tl.sum((bits < kth[:, None]).to(tl.int32), 1)
        ties += tl.sum((bits == kth[:, None]).to(tl.int32), 1)
        before = tl.maximum(before, tl.max(tl.where(bits < kth[:, None], distance, -1.0), 1))
        within = tl.maximum(within, tl.max(tl.where(bits <= kth[:, None], distance, 0.0), 1))
        beyond = tl.where(bits > kth[:, None], distance, float("inf"))
        after = tl.minimum(after, tl.min(beyond, 1))
    quota = topk - nearer
    tied = ties > quota
    low, high = _cut(_distance(kth), before, within, after, tied)

    # The last key of a tie that takes part, and kappa: the support is fixed now, so one step lands
    # and the next corrects it.
    edge = tl.zeros((rows,), tl.int32) - 1
    for _ in tl.range(0, 2):
        seen = tl.zeros((rows,), tl.int32)
        total = zero
        for i in tl.range(0, visits):
            tile = tl.load(list_ptr + i)
            scores = tile_scores(query, key_ptr, tile, keys, shape) - top[:, None]
            tie = ((scores > low[:, None]) & (scores <= high[:, None])).to(tl.int32)
            rank = seen[:, None] + tl.cumsum(tie, 1)
            admitted = (tie > 0) & (rank <= quota[:, None])
            index = tile * shape.keys + tl.arange(0, shape.keys)
            edge = tl.maximum(edge, tl.max(tl.where(admitted, index[None, :], -1), 1))
            seen += tl.sum(tie, 1)
            part = admitted | (scores > high[:, None])
            total += tl.sum(tl.where(part, scores - kappa[:, None], 0.0), 1)
        kappa = tl.where(long, kappa + (total - 1.0) / topk, kappa)
    low = tl.where(long, low, kappa)
    high = tl.where(long, high, kappa)
    _store_cut(cuts_ptr, edges_ptr, line, low, high, edge, inside)
    tl.store(limits_ptr + line * 2 + 1, kappa, inside)

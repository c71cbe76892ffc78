"""Thresholds of a stripe of queries: launches ``_triton_screen`` and ``_triton_threshold``.

The device is never waited for. Query tiles whose rows have too many candidates are flagged there,
and kernels that follow act on the flags.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hspan.ops import _triton_screen as screen_kernels
from hspan.ops import _triton_shapes as shapes
from hspan.ops import _triton_threshold as threshold_kernels


@dataclass(frozen=True)
class Thresholds:
    """Who is in the support of a stripe's rows; see ``_triton_tiles.in_support``."""

    limits: Tensor  # [b, n, 2]
    cuts: Tensor  # [b, n, 2] low and high, with truncation only
    edges: Tensor  # [b, n] likewise


@dataclass(frozen=True)
class Candidates:
    """What screening leaves of a stripe."""

    scores: Tensor  # [b, n, capacity] relative to the row's maximum
    indices: Tensor  # [b, n, capacity]
    sizes: Tensor  # [b, n] candidates; in flagged query tiles, elements of the support
    flags: Tensor  # [b, query tiles] candidates don't fit
    lists: Tensor  # [b, query tiles, key tiles] the tiles that hold candidates
    visits: Tensor  # [b, query tiles] how many those are


def enqueue(
    kernel: Any,
    grid: tuple[int, ...],
    *arguments: Any,
    warps: int,
    stages: int = 3,
    **constants: Any,
) -> None:
    """Launch a kernel; fused multiply-adds are Triton's default, which it wants to hear."""
    kernel[grid](*arguments, num_warps=warps, num_stages=stages, enable_fp_fusion=True, **constants)


def list_hits(hits: Tensor, lists: int, merged: int) -> tuple[Tensor, Tensor]:
    """Turn a map of hits [b, lines, items] into one list per ``merged`` lines: lists, visits."""
    batch, lines, items = hits.shape
    listed = torch.empty(batch, lists, items, dtype=torch.int32, device=hits.device)
    visits = torch.empty(batch, lists, dtype=torch.int32, device=hits.device)
    enqueue(
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


def collect(
    tiling: shapes.Tiling, query: Tensor, key: Tensor, limits: Tensor
) -> tuple[Tensor, Candidates]:
    """Write the rows' maxima into limits; return lower bounds of kappa, and the candidates."""
    batch, queries, _ = query.shape
    keys, tiles, launch = key.shape[1], tiling.tiles, tiling.launch
    maxima = limits.new_empty(batch, tiles, queries)
    programs = -(-queries // launch.screen_queries)
    spans, span = tiling.spans(programs * batch)
    enqueue(
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
    enqueue(
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
    lists, visits = list_hits(hits, query_tiles, launch.queries // shapes.BOUND_ROWS)
    found = Candidates(
        scores=limits.new_empty(batch, queries, tiling.capacity),
        indices=visits.new_empty(batch, queries, tiling.capacity),
        sizes=visits.new_empty(batch, queries),
        flags=visits.new_empty(batch, query_tiles),
        lists=lists,
        visits=visits,
    )
    enqueue(
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


def solve_screened(
    tiling: shapes.Tiling, query: Tensor, key: Tensor, limits: Tensor
) -> tuple[Thresholds, Candidates]:
    """Solve rows on their candidates, and flagged query tiles over the tiles that hold them."""
    batch, queries, _ = query.shape
    launch = tiling.launch
    lower, found = collect(tiling, query, key, limits)
    cuts, edges = torch.empty_like(limits), torch.empty_like(found.sizes)
    enqueue(
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
    enqueue(
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
        enqueue(
            threshold_kernels.truncate,
            (tiling.query_tiles(queries), batch),
            *flagged,
            *(cuts, edges),
            *(queries, key.shape[1], tiling.tiles, tiling.topk),
            shape=tiling.shape(launch.queries),
            warps=launch.warps,
            stages=launch.stages,
        )
    return Thresholds(limits, cuts, edges), found


def solve_directly(
    tiling: shapes.Tiling, query: Tensor, key: Tensor, limits: Tensor
) -> tuple[Thresholds, Candidates]:
    """Solve every row over all tiles; there are no candidates."""
    batch, queries, _ = query.shape
    launch = tiling.launch
    unused = torch.empty(0, dtype=torch.int32, device=query.device)
    sizes = torch.empty(batch, queries, dtype=torch.int32, device=query.device)
    enqueue(
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
    found = Candidates(unused, unused, sizes, unused, unused, unused)
    return Thresholds(limits, limits, unused), found

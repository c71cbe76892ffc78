# type: ignore
# Written in Triton's language, which a checker of Python types cannot follow.
"""What the Triton kernels share: tiles of tensors, their products, and who is in the support.

Tensors are contiguous, and kernels see one image of them, [rows, channels]. ``_triton_shapes`` says
how tiles are cut. Channels come in up to two pieces whose widths are powers of two, so that 96
channels are 64 + 32 and not padded to 128. Products contract them; one operand's pieces stay on the
chip while tiles of the other pass by, and channels beyond the pieces are streamed.

Attributes of a shape are constants to the compiler only under a name declared ``tl.constexpr``.
"""

import triton
import triton.language as tl

_PRECISION = tl.constexpr("ieee")  # float32 products are float32 products, not tf32


@triton.jit
def load_tile(
    base,
    first,
    count,
    start,
    channels: tl.constexpr,
    width: tl.constexpr,
    rows: tl.constexpr,
    masked: tl.constexpr,
):
    """Load rows from ``first`` and channels from ``start`` on: [rows, width], zero outside."""
    row = first + tl.arange(0, rows)
    column = start + tl.arange(0, width)
    inside = (row < count)[:, None]
    if masked:
        inside = inside & (column < channels)[None, :]
    places = row.to(tl.int64)[:, None] * channels + column[None, :]
    return tl.load(base + places, inside, other=0.0)


@triton.jit
def resident(base, first, count, contraction: tl.constexpr, rows: tl.constexpr):
    """The left operand of ``products``: pieces of ``rows`` rows, and where to stream the rest."""
    channels: tl.constexpr = contraction.count
    wide: tl.constexpr = contraction.wide
    narrow: tl.constexpr = contraction.narrow
    first_piece = 0.0
    second_piece = 0.0
    if wide > 0:
        first_piece = load_tile(base, first, count, 0, channels, wide, rows, wide > channels)
    if narrow > 0:
        masked: tl.constexpr = wide + narrow > channels
        second_piece = load_tile(base, first, count, wide, channels, narrow, rows, masked)
    return first_piece, second_piece, base, first, count


@triton.jit
def products(
    left,
    base,
    first,
    count,
    contraction: tl.constexpr,
    left_rows: tl.constexpr,
    rows: tl.constexpr,
):
    """Dot products of the resident rows with those from ``first`` on: [left_rows, rows]."""
    channels: tl.constexpr = contraction.count
    wide: tl.constexpr = contraction.wide
    narrow: tl.constexpr = contraction.narrow
    step: tl.constexpr = contraction.step
    first_piece, second_piece, left_base, left_first, left_count = left
    out = tl.zeros((left_rows, rows), tl.float32)
    if wide > 0:
        right = load_tile(base, first, count, 0, channels, wide, rows, wide > channels)
        out = tl.dot(first_piece, tl.trans(right), out, input_precision=_PRECISION)
    if narrow > 0:
        masked: tl.constexpr = wide + narrow > channels
        right = load_tile(base, first, count, wide, channels, narrow, rows, masked)
        out = tl.dot(second_piece, tl.trans(right), out, input_precision=_PRECISION)
    if wide + narrow < channels:
        ragged: tl.constexpr = (channels - wide - narrow) % step != 0
        for start in tl.range(wide + narrow, channels, step):
            left_part = load_tile(
                left_base, left_first, left_count, start, channels, step, left_rows, ragged
            )
            right_part = load_tile(base, first, count, start, channels, step, rows, ragged)
            out = tl.dot(left_part, tl.trans(right_part), out, input_precision=_PRECISION)
    return out


@triton.jit
def tile_scores(query, key_ptr, tile, keys, shape: tl.constexpr):
    """Scores of the resident queries in one key tile, -inf beyond the last key."""
    contraction: tl.constexpr = shape.channels
    rows: tl.constexpr = shape.queries
    block: tl.constexpr = shape.keys
    first = tile * block
    scores = products(query, key_ptr, first, keys, contraction, rows, block)
    if shape.ragged:
        scores = tl.where((first + tl.arange(0, block) < keys)[None, :], scores, -float("inf"))
    return scores


@triton.jit
def slice_start(accumulation: tl.constexpr):
    """First channel of this program's slice: a constant where there is one slice only.

    The compiler then sees that a tile to accumulate is the tile that a product has just loaded.
    """
    start = 0
    if accumulation.width < accumulation.count:
        start = tl.program_id(1) * accumulation.width
    return start


@triton.jit
def accumulators(accumulation: tl.constexpr, rows: tl.constexpr):
    """Zeros for the two pieces of ``rows`` rows."""
    wide: tl.constexpr = accumulation.wide
    narrow: tl.constexpr = accumulation.narrow
    second = tl.zeros((), tl.float32)
    if narrow > 0:
        second = tl.zeros((rows, narrow), tl.float32)
    return tl.zeros((rows, wide), tl.float32), second


@triton.jit
def accumulate(
    sums, weights, base, first, count, start, accumulation: tl.constexpr, rows: tl.constexpr
):
    """Add the product of weights [*, rows] with a slice of the rows from ``first`` on."""
    channels: tl.constexpr = accumulation.count
    wide: tl.constexpr = accumulation.wide
    narrow: tl.constexpr = accumulation.narrow
    masked: tl.constexpr = accumulation.masked
    one, two = sums
    weights = weights.to(base.dtype.element_ty)
    part = load_tile(base, first, count, start, channels, wide, rows, masked)
    one = tl.dot(weights, part, one, input_precision=_PRECISION)
    if narrow > 0:
        part = load_tile(base, first, count, start + wide, channels, narrow, rows, masked)
        two = tl.dot(weights, part, two, input_precision=_PRECISION)
    return one, two


@triton.jit
def _store_tile(base, tile, first, count, start, end, channels: tl.constexpr, add: tl.constexpr):
    row = first + tl.arange(0, tile.shape[0])
    column = start + tl.arange(0, tile.shape[1])
    inside = (row < count)[:, None] & (column < end)[None, :]
    places = base + row.to(tl.int64)[:, None] * channels + column[None, :]
    if add:
        tile += tl.load(places, inside, other=0.0)
    tl.store(places, tile.to(base.dtype.element_ty), inside)


@triton.jit
def store_sums(base, sums, first, count, start, accumulation: tl.constexpr, add: tl.constexpr):
    """Write a slice of rows from ``first`` on, or add to what is there."""
    channels: tl.constexpr = accumulation.count
    wide: tl.constexpr = accumulation.wide
    one, two = sums
    end = tl.minimum(start + accumulation.width, channels)
    _store_tile(base, one, first, count, start, end, channels, add)
    if accumulation.narrow > 0:
        _store_tile(base, two, first, count, start + wide, end, channels, add)


@triton.jit
def undefine(sums, defined, accumulation: tl.constexpr):
    """NaN in rows that aren't defined [rows, 1]."""
    one, two = sums
    one = tl.where(defined, one, float("nan"))
    if accumulation.narrow > 0:
        two = tl.where(defined, two, float("nan"))
    return one, two


@triton.jit
def tile_at(list_ptr, i, listed: tl.constexpr):
    """The i-th tile to visit: of a list, or simply the i-th."""
    tile = i
    if listed:
        tile = tl.load(list_ptr + i)
    return tile


@triton.jit
def load_limits(limits_ptr, line, inside):
    """Each row's maximum and kappa; 0 and NaN where it has no threshold."""
    kappa = tl.load(limits_ptr + line * 2 + 1, inside, other=float("nan"))
    return tl.load(limits_ptr + line * 2, kappa == kappa, other=0.0), kappa


@triton.jit
def load_cut(cuts_ptr, edges_ptr, line, kappa, inside, truncated: tl.constexpr):
    """Low, high and edge of ``in_support``; unused without truncation."""
    low = kappa
    high = kappa
    edge = kappa
    if truncated:
        low = tl.load(cuts_ptr + line * 2, inside, other=float("inf"))
        high = tl.load(cuts_ptr + line * 2 + 1, inside, other=float("inf"))
        edge = tl.load(edges_ptr + line, inside, other=-1)
    return low, high, edge


@triton.jit
def in_support(scores, index, kappa, low, high, edge, truncated: tl.constexpr):
    """Whose weight is positive; scores are relative to their row's maximum, index counts keys.

    Exact: what exceeds kappa. Truncated: what exceeds ``high``, and between ``low`` and ``high``,
    where the ties at the k-th largest score lie, the keys up to ``edge``. Both limits lie halfway
    between neighbouring scores, so that one that another kernel sums in another order stays on its
    side.
    """
    inside = scores > kappa
    if truncated:
        inside = (scores > high) | ((scores > low) & (index <= edge))
    return inside


@triton.jit
def is_finite(x):
    """Tell numbers from NaN and both infinities."""
    return tl.abs(x) < float("inf")


@triton.jit
def nan_maximum(a, b):
    """The larger of two, NaN if either is."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def row_maximum(scores):
    """Largest score of every row; not finite where a row holds NaN."""
    if INTERPRETED:  # its own maximum drops NaN, and a custom one loops over elements in Python
        highest = tl.max(tl.where(scores == scores, scores, float("inf")), 1)
    else:
        highest = tl.reduce(scores, 1, nan_maximum)
    return highest


# TRITON_INTERPRET decides when Triton is imported, for good.
INTERPRETED = tl.constexpr(not isinstance(load_tile, triton.JITFunction))

"""How the Triton kernels cut their work into tiles: all numbers that a GPU may want otherwise.

They were chosen on paper, for an H100, and by the compiler's reports of registers and shared memory
at 96 and 192 channels. None has been tuned by measuring.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

DIRECT_KEYS = 4096  # up to so many keys every tile is visited: screening costs more launches
STRIPE_BYTES = 2**27  # scratch memory of the queries that are in flight together
PROGRAMS = 1024  # keep a GPU busy; fewer query tiles than that are split along the keys
BOUND_ROWS = 16  # queries whose maxima one program of ``bound`` keeps in its cache
BOUND_CHUNK = 64  # key tiles that it reads at once
LIST_CHUNK = 256  # likewise, of ``list_hits``
COLLECT_BATCH = 16  # listed tiles between two looks at the capacity
GROUPS = 64  # groups of key tiles whose maxima bound the kappa of unscreened queries
GATHER_BLOCK = 16  # values gathered at once
# Candidates of a query. On a photograph's features at T ≈ 32 the bound admits 80-150 on average; a
# tenth of the query tiles hold a row with more than 1,024, most one with more than 256.
_MIN_CAPACITY, _MAX_CAPACITY = 1024, 2048
_BLOCK = 8  # side of the square of pixels that makes a tile
_RESIDENT = 192  # up to so many channels of an operand stay on the chip, in half precision,
_STREAMED_FROM = 128  # else so many, and the rest passes by in steps
_SLICE, _SINGLE_SLICE = 256, 128  # output channels that one program accumulates; in float32
_MAX_IMAGES = 65_535  # the most programs that a grid's later dimensions take
_AMPLE = 200 * 1024  # bytes of shared memory that the large tiles take


@dataclass(frozen=True)
class Launch:
    """Tiles and launch options, by the precision of the products."""

    screen_queries: int  # tall tiles: a key tile is loaded once for so many queries
    screen_warps: int
    queries: int
    keys: int
    warps: int
    wide_warps: int  # of kernels that keep more in registers: candidates' places, two gradients
    stages: int


_HALF = Launch(256, 8, queries=64, keys=64, warps=4, wide_warps=8, stages=3)
_SMALL = Launch(128, 4, queries=32, keys=32, warps=4, wide_warps=4, stages=2)
_SINGLE = Launch(128, 4, queries=32, keys=32, warps=4, wide_warps=8, stages=2)


@dataclass(frozen=True)
class Contraction:
    """Channels along which products contract: two powers of two on the chip, then steps."""

    count: int
    wide: int
    narrow: int
    step: int


@dataclass(frozen=True)
class Accumulation:
    """Output channels of one program: a slice of all, as two powers of two."""

    count: int
    width: int  # of the slice
    wide: int
    narrow: int
    masked: bool  # the pieces reach beyond the last channel


@dataclass(frozen=True)
class Tile:
    """A tile of scores."""

    queries: int
    keys: int
    ragged: bool  # the last key tile is not full
    channels: Contraction


def launch_of(query: Tensor, value: Tensor) -> Launch:
    """float32 products are plain multiply-adds and need smaller tiles than tensor cores."""
    if torch.float32 in (query.dtype, value.dtype):
        return _SINGLE
    if query.is_cuda:
        device = torch.cuda.get_device_properties(query.device)
        if getattr(device, "shared_memory_per_block_optin", _AMPLE) < _AMPLE:
            return _SMALL
    return _HALF


def power_of_two(count: int) -> int:
    """The smallest power of two that holds ``count``; at least 16, the least that products take."""
    return max(16, 1 << (count - 1).bit_length())


def _pieces(count: int) -> tuple[int, int]:
    """Two powers of two that hold ``count`` channels, the second 0 where it would spare nothing."""
    whole = power_of_two(count)
    wide = max(16, whole // 2)
    narrow = power_of_two(count - wide) if count > wide else 0
    return (wide, narrow) if wide + narrow < whole or whole > 128 else (whole, 0)


def contraction(count: int, dtype: torch.dtype) -> Contraction:
    """Cut the channels of a product's operands.

    float32 is streamed from the first channel on: its operands live in registers.
    """
    if dtype == torch.float32:
        return Contraction(count, 0, 0, 16)
    return Contraction(count, *_pieces(count if count <= _RESIDENT else _STREAMED_FROM), 64)


def gradient_stages(launch: Launch, *operands: Contraction) -> int:
    """Tiles in flight where an H100's shared memory holds tiles of four operands."""
    resident = sum(operand.wide + operand.narrow for operand in operands)
    return min(launch.stages, 2) if resident > 320 else launch.stages


def slices(count: int, dtype: torch.dtype) -> int:
    """Programs that share ``count`` output channels."""
    return -(-count // (_SINGLE_SLICE if dtype == torch.float32 else _SLICE))


def accumulation(count: int, parts: int) -> Accumulation:
    """Cut the output channels of one of ``parts`` programs."""
    width = -(-count // parts)
    wide, narrow = _pieces(width)
    return Accumulation(count, width, wide, narrow, wide + narrow > width or width * parts > count)


@dataclass(frozen=True)
class Tiling:
    """How one call is cut, and for whom."""

    launch: Launch
    channels: Contraction
    keys: int
    topk: int | None

    @property
    def tiles(self) -> int:
        """Key tiles."""
        return -(-self.keys // self.launch.keys)

    @property
    def direct(self) -> bool:
        """So few keys that every tile may be visited."""
        return self.keys <= DIRECT_KEYS

    @property
    def screened(self) -> bool:
        """The k largest scores are sought among candidates, whatever their number."""
        return self.topk is not None or not self.direct

    @property
    def capacity(self) -> int:
        """Candidates that a query may have: at least twice the k that it keeps."""
        return min(_MAX_CAPACITY, max(_MIN_CAPACITY, power_of_two(2 * (self.topk or 1))))

    def shape(self, queries: int) -> Tile:
        """The tile of so many queries."""
        return Tile(queries, self.launch.keys, self.keys % self.launch.keys != 0, self.channels)

    def query_tiles(self, queries: int) -> int:
        """Tiles of so many queries."""
        return -(-queries // self.launch.queries)

    def spans(self, programs: int) -> tuple[int, int]:
        """Cut the key tiles so that enough programs run: how many spans, tiles of each."""
        wanted = max(1, min(PROGRAMS // programs, self.tiles // 4))
        span = -(-self.tiles // wanted)
        return -(-self.tiles // span), span

    def stripes(self, batch: int, queries: int, scratch: int) -> Iterator[tuple[slice, slice]]:
        """Cut [B, N] queries that need ``scratch`` bytes each; small images share a stripe.

        Yields:
            Pairs of slices over batch and queries; only one of them cuts, so that what they take
            from a contiguous tensor is contiguous.
        """
        rows = max(1, STRIPE_BYTES // scratch // self.launch.screen_queries)
        rows *= self.launch.screen_queries
        images = max(1, min(rows // queries, _MAX_IMAGES))
        for b in range(0, batch, images):
            for n in range(0, queries, rows):
                yield slice(b, min(b + images, batch)), slice(n, min(n + rows, queries))


def block_order(tokens: int, width: int, device: torch.device) -> Tensor | None:
    """List an image's pixels square by square, so that tiles hold neighbours; None: no image.

    Neighbours look for the same keys. On a photograph's features at T ≈ 32 and N = 16,384, 18 % of
    the tiles hold candidates instead of 48 % for tiles that are pieces of lines.
    """
    if width < _BLOCK or tokens % width != 0:
        return None
    pixel = torch.arange(tokens, device=device)
    y, x = pixel // width, pixel % width
    square = y // _BLOCK * -(-width // _BLOCK) + x // _BLOCK
    return (square * _BLOCK**2 + y % _BLOCK * _BLOCK + x % _BLOCK).argsort()


def tiling_of(query: Tensor, key: Tensor, value: Tensor, topk: int | None) -> Tiling:
    """Choose for one call."""
    channels = contraction(query.shape[2], query.dtype)
    return Tiling(launch_of(query, value), channels, key.shape[1], topk)

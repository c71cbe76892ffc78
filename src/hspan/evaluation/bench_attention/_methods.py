"""What is compared: the ways to compute attention, and the floor that none of them can go below."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.evaluation.bench_attention._features import Features
from hspan.evaluation.bench_attention._released import (
    BACKWARD_MATRICES,
    FORWARD_MATRICES,
    released_attention,
)
from hspan.ops import hspa_attention
from hspan.ops._backends import BACKENDS, Call
from hspan.ops._library import instruction_sets, why_missing

Direction = Literal["forward", "forward+saved", "forward+backward"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
OURS = "ours"
LEVELS = ("portable", "avx2", "avx512", "avx512_bf16", "amx")  # of the compiled kernels

# Queries of one tile, where the released algorithm's N×N matrices are more than the memory holds.
RELEASED_TILE = 2048
_SCAN_SCORES = 2**19  # scores of a tile of the bare product: they stay in a core's cache

Attend = Callable[[Tensor, Tensor, Tensor, Features], Tensor]
Prepare = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def _as_they_are(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return query, key, value


def _always() -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way.

    Attributes:
        title: for tables and legends.
        attend: query [1, n, C], key [1, N, C], value [1, N, D] and the features that they are of
            to the output [1, n, D].
        prepare: what happens to the inputs before the clock starts.
        exact: computes Eq. (8) in float32, so its error can be measured.
        backward: can be differentiated.
        matrices: N×M matrices of float32 held at once, forward and with backward; None: memory is
            linear in N.
        instruction_set: that our compiled kernels must use; None leaves them the best.
        usual: measured unless told otherwise.
        why_not: a reason why it can't run here, or None.
    """

    title: str
    attend: Attend
    prepare: Prepare = _as_they_are
    exact: bool = False
    backward: bool = True
    matrices: tuple[float, float] | None = None
    instruction_set: str | None = None
    usual: bool = True
    why_not: Callable[[], str | None] = _always

    def matrix_bytes(self, rows: int, keys: int, direction: Direction) -> int:
        """Bytes of the matrices that it holds for so many queries; 0 where it holds none."""
        if self.matrices is None:
            return 0
        return int(4 * rows * keys * self.matrices[direction == "forward+backward"])


def _hspa(
    query: Tensor, key: Tensor, value: Tensor, features: Features, backend: str = "auto"
) -> Tensor:
    whole = query.shape[1] == key.shape[1]  # some queries alone are no image
    width = features.width if whole else None
    return hspa_attention(query, key, value, width=width, backend=backend)


def _released(query: Tensor, key: Tensor, value: Tensor, features: Features) -> Tensor:
    return released_attention(query, key, value)


def _softmax(query: Tensor, key: Tensor, value: Tensor, features: Features) -> Tensor:
    q, k, v = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)  # one head: [1, 1, N, D]
    return F.scaled_dot_product_attention(q, k, v, scale=1.0).squeeze(1)


def _for_fused_softmax(
    query: Tensor, key: Tensor, value: Tensor, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Zeros up to D channels: torch's fused kernels want one width, and are faster even so."""
    missing = max(0, value.shape[2] - query.shape[2])
    query, key = F.pad(query, (0, missing)), F.pad(key, (0, missing))
    return query.to(dtype), key.to(dtype), value.to(dtype)


def _product(query: Tensor, key: Tensor, value: Tensor, features: Features) -> Tensor:
    """Every score once, tile by tile, and the maximum of every row: [1, n, 1]."""
    rows = max(1, _SCAN_SCORES // key.shape[1])
    keys = key[0].T
    scores = query.new_empty(rows, key.shape[1])
    largest = query.new_empty(1, query.shape[1], 1)
    for i in range(0, query.shape[1], rows):
        part = query[0, i : i + rows]
        tile = torch.mm(part, keys, out=scores[: len(part)])
        largest[0, i : i + rows, 0] = tile.amax(dim=1)
    return largest


def _in_bf16(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return query.bfloat16(), key.bfloat16(), value.bfloat16()


def _backend_why_not(name: str) -> str | None:
    return BACKENDS[name].why_not(Call("cpu", torch.float32))


def _backend(title: str, name: str) -> Method:
    return Method(
        title=title,
        attend=partial(_hspa, backend=name),
        exact=True,
        why_not=partial(_backend_why_not, name),
    )


def _level_why_not(name: str) -> str | None:
    present = instruction_sets()
    if not present:
        return why_missing()
    if name not in present:
        return f"no {name} in this machine or build"
    return _backend_why_not("native")


def _level(name: str) -> Method:
    """Our compiled kernels with the instructions of one level and those below it."""
    return Method(
        title=f"hspan, {name}",
        attend=partial(_hspa, backend="native"),
        exact=True,
        instruction_set=name,
        usual=False,
        why_not=partial(_level_why_not, name),
    )


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        OURS: Method(title="hspan", attend=_hspa, exact=True),
        "released": Method(
            title="released, fp32",
            attend=_released,
            exact=True,
            matrices=(FORWARD_MATRICES, BACKWARD_MATRICES),
        ),
        "sdpa-fp32": Method(
            title="SDPA softmax, fp32", attend=_softmax, prepare=_for_fused_softmax
        ),
        "sdpa-bf16": Method(
            title="SDPA softmax, bf16",
            attend=_softmax,
            prepare=partial(_for_fused_softmax, dtype=torch.bfloat16),
        ),
        "tiles": _backend("hspan, dense tiles", "tiles"),
        "screened": _backend("hspan, torch only", "screened"),
        "product-fp32": Method(title="product and scan, fp32", attend=_product, backward=False),
        "product-bf16": Method(
            title="product and scan, bf16",
            attend=_product,
            prepare=_in_bf16,
            backward=False,
        ),
        **{f"hspan-{name}": _level(name) for name in LEVELS},
    }
)


def choose_methods(names: Sequence[str] | None) -> dict[str, Method]:
    """Resolve names, in the table's order; ours is always among them.

    Args:
        names: keys of METHODS; None means those that are measured unless told otherwise.

    Raises:
        UsageError: a name isn't in the table.
    """
    for name in names or []:
        if name not in METHODS:
            raise UsageError(f"unknown method {name!r}: choose from {', '.join(METHODS)}")
    return {
        name: method
        for name, method in METHODS.items()
        if name == OURS or (method.usual if names is None else name in names)
    }

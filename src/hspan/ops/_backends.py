"""The backend table: who can compute a call of ``hspa_attention``, in order of preference.

"auto" takes the first backend that has no reason to refuse. A backend that was named refuses with
its reason and is never replaced. Kernels are imported when they are first used.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

import torch
from torch import Tensor

from hspan.errors import BackendUnavailable, UsageError


class Kernel(Protocol):
    """One way to compute the attention; all inputs have been validated.

    Shapes: query [B, N, C], key [B, M, C], value [B, M, D], limits [B, N, 2]: each query's largest
    score and its kappa relative to that, in the threshold's dtype, for the backward to reuse.
    topk is None or below M.
    """

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, topk: int | None
    ) -> tuple[Tensor, Tensor]:
        """Return the output [B, N, D] in the dtype of value, and limits."""
        ...

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        limits: Tensor,
        topk: int | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of query, key and value, each in its input's dtype."""
        ...


@dataclass(frozen=True)
class Call:
    """What a backend must know to decide whether it can compute a call."""

    device: str
    dtype: torch.dtype


@dataclass(frozen=True)
class Backend:
    """A row of the table."""

    why_not: Callable[[Call], str | None]  # None means usable
    load: Callable[[], Kernel]  # imports lazily


def _module(name: str) -> Callable[[], Kernel]:
    return lambda: cast(Kernel, import_module(f"hspan.ops.{name}"))


def _only_processors(call: Call) -> str | None:
    return None if call.device == "cpu" else f"runs on processors, the tensors are on {call.device}"


def _not_built(call: Call) -> str:
    return "no Triton kernel is part of this version; 'tiles' runs on every device"


BACKENDS: dict[str, Backend] = {
    "triton": Backend(_not_built, _module("_triton")),
    "cpu": Backend(_only_processors, _module("_cpu")),
    "tiles": Backend(lambda call: None, _module("_tiles")),
    "reference": Backend(lambda call: None, _module("_reference")),
}


def check_name(name: str) -> None:
    """Raise UsageError unless ``name`` is "auto" or in the table."""
    if name != "auto" and name not in BACKENDS:
        raise UsageError(f"unknown backend {name!r}: choose from auto, {', '.join(BACKENDS)}")


def pick(call: Call, name: str) -> Kernel:
    """Choose the kernel for a call.

    Raises:
        BackendUnavailable: the named backend can't compute this call.
        UsageError: no backend has that name.
    """
    check_name(name)
    if name == "auto":
        name = next(n for n, backend in BACKENDS.items() if not backend.why_not(call))
    elif reason := BACKENDS[name].why_not(call):
        raise BackendUnavailable(f"backend {name!r}: {reason}")
    return BACKENDS[name].load()

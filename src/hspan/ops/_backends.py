"""The backend table: who can compute a call of ``hspa_attention``, in order of preference.

"auto" takes the first backend that has no reason to refuse. A backend that was named refuses with
its reason and is never replaced. Kernels are imported when they are first used.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Protocol, cast

import torch
from torch import Tensor

from hspan.errors import BackendUnavailable, UsageError


class Kernel(Protocol):
    """One way to compute the attention; all inputs have been validated.

    Shapes: query [B, N, C], key [B, M, C], value [B, M, D], limits [B, N, 2]: each query's largest
    score and its kappa relative to that, in the threshold's dtype, for the backward to reuse.
    topk is None or below M. width is that of the image whose pixels the tokens are, or 0: a hint.
    support is memory, possibly none, in which the forward pass may keep what the backward pass
    then finds again. A kernel is free to leave both alone.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        topk: int | None,
        width: int,
        support: Tensor,
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
        support: Tensor,
        topk: int | None,
        width: int,
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


def _no_native(call: Call) -> str | None:
    if reason := _only_processors(call):
        return reason
    from hspan.ops import _library

    return _library.why_missing() or None


def _no_triton(call: Call) -> str | None:
    if reason := _triton_missing():
        return reason
    interpreted = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")
    if call.device != "cuda" and not (interpreted and call.device == "cpu"):
        return (
            f"runs on CUDA devices, the tensors are on {call.device}"
            " (processors can interpret it, slowly: set TRITON_INTERPRET=1)"
        )
    if call.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"takes float16, bfloat16 and float32, not {str(call.dtype).removeprefix('torch.')}"
    return None


@cache
def _triton_missing() -> str | None:
    """Why Triton can't be used, told without importing it."""
    how = "pip install 'triton>=3.4' (Linux)"
    if find_spec("triton") is None:
        return f"Triton is not installed: {how}"
    try:
        release = version("triton")
    except PackageNotFoundError:  # a build under another name, as torch ships for some GPUs
        return None
    recent = tuple(int(part) for part in release.split(".")[:2]) >= (3, 4)
    return None if recent else f"Triton {release} is too old: {how}"


BACKENDS: dict[str, Backend] = {
    "triton": Backend(_no_triton, _module("_triton")),
    "native": Backend(_no_native, _module("_native")),
    "screened": Backend(_only_processors, _module("_screened")),
    "tiles": Backend(lambda call: None, _module("_tiles")),
    "reference": Backend(lambda call: None, _module("_reference")),
}

CPU = ("native", "screened")  # "cpu": the processor's kernel, as compiled code where there is any


# Weights a query may keep for the backward pass, on average over its image; where there are more,
# the backward pass finds them again. Memory is taken only as it is filled.
_KEPT_PER_QUERY = 256


def support_capacity(queries: int, keys: int) -> int:
    """Return how many weights an image may keep."""
    kept = torch.sym_min(keys, _KEPT_PER_QUERY)  # sizes may be symbolic, hence not min
    return queries * kept  # pyright: ignore[reportReturnType]


def support_bytes(batch: int, queries: int, keys: int, dtype: torch.dtype) -> int:
    """Return how many bytes keep the supports of a call whose computations run in dtype."""
    return batch * (queries * 12 + support_capacity(queries, keys) * (4 + dtype.itemsize))


def check_name(name: str) -> None:
    """Raise UsageError unless ``name`` is "auto", "cpu" or in the table."""
    if name not in ("auto", "cpu", *BACKENDS):
        raise UsageError(f"unknown backend {name!r}: choose from auto, cpu, {', '.join(BACKENDS)}")


def pick(call: Call, name: str) -> Kernel:
    """Choose the kernel for a call.

    Raises:
        BackendUnavailable: the named backend can't compute this call.
        UsageError: no backend has that name.
    """
    check_name(name)
    if name in ("auto", "cpu"):
        choice = BACKENDS if name == "auto" else CPU
        usable = next((n for n in choice if not BACKENDS[n].why_not(call)), None)
        if usable is None:
            raise BackendUnavailable(f"backend {name!r}: {_only_processors(call)}")
        name = usable
        if name == "screened":
            from hspan.ops import _library

            _library.say_missing_once()
    elif reason := BACKENDS[name].why_not(call):
        raise BackendUnavailable(f"backend {name!r}: {reason}")
    return BACKENDS[name].load()

"""Attention over short sequences in bf16, as products of whole matrices (native/short.h).

Networks train on patches: so few tokens that all weights fit a core's caches, and so many of them
in each support that choosing among them costs more than multiplying with all.
"""

import ctypes

import torch
from torch import Tensor

from hspan.ops import _library
from hspan.ops._calls import Code, checked, threads_for

MOST = 1024  # queries or keys: beyond, narrow queries are screened faster (measured on AMX)


class _Call(ctypes.Structure):
    """hspan_short in native/hspan.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "queries", "keys")),
        *((name, ctypes.c_int64) for name in ("channels", "value_channels")),
        *((name, ctypes.c_int32) for name in ("threads", "level")),
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "limits")),
    ]


def takes(query: Tensor, key: Tensor, value: Tensor, topk: int | None) -> bool:
    """Whether a call is one for this module: bf16 throughout, short, exact, and not empty."""
    compiled = _library.library()
    return (
        compiled is not None
        and topk is None
        and query.dtype == value.dtype == torch.bfloat16
        and 0 < query.numel()
        and 0 < value.numel()
        and max(query.shape[1], key.shape[1]) <= MOST
        and bool(compiled.hspan_short_usable(_library.chosen_level()))
    )


def forward(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor] | None:
    """Output and limits, as of ``_backends.Kernel``; None where another way must be taken."""
    limits = torch.empty(*query.shape[:2], 2)
    out = torch.empty(*query.shape[:2], value.shape[2], dtype=torch.bfloat16)
    inputs = [t.contiguous() for t in (query, key, value)]
    return (out, limits) if _run("hspan_short_forward", inputs, limits, out) else None


def backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, limits: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The gradients, as of ``_backends.Kernel``; None where another way must be taken."""
    inputs = [t.contiguous() for t in (query, key, value)]
    gradients = tuple(torch.empty_like(t) for t in inputs)
    done = _run("hspan_short_backward", inputs, limits.contiguous(), grad.contiguous(), *gradients)
    return (gradients[0], gradients[1], gradients[2]) if done else None


def _run(name: str, inputs: list[Tensor], limits: Tensor, *tensors: Tensor) -> bool:
    query, key, value = inputs
    batch, queries, channels = query.shape
    call = _Call(
        batch,
        queries,
        key.shape[1],
        channels,
        value.shape[2],
        threads_for(query, key, value),
        _library.chosen_level(),
        *(t.data_ptr() for t in (*inputs, limits)),
    )
    pointers = (ctypes.c_void_p(t.data_ptr()) for t in tensors)
    code = getattr(_library.library(), name)(ctypes.byref(call), *pointers)
    return checked(code, Code.DONE, Code.ELSEWHERE, smaller="smaller patches") == Code.DONE

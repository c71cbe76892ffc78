"""What a forward pass of any network costs: memory and arithmetic, as polynomials in the pixels.

The network runs on three small images while every operator is watched. The bytes alive after the
i-th operator are constant + linear + quadratic in the number of LR pixels (convolutions are
linear, dense attention quadratic), so three sizes settle three coefficients per operator, and the
peak at any size is the largest of these polynomials there. Nothing is timed: on one machine, equal
networks get equal numbers every time.

The package's own attention works inside its operator, where nothing can be watched; what it needs
there follows from the sizes of its tensors and from the backend that computes it (``hspan.ops``).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from hspan.inference._speed import Speed
from hspan.ops._backends import BACKENDS, Call
from hspan.ops._tiles import tiles
from hspan.ops.soft_threshold import compute_dtype

SIZES = (16, 24, 32)  # pixels a side; multiples of 8, so that windowed networks pad nothing
# What a thread of the compiled attention writes to per key: maxima, candidates, weights. Measured:
# 20 (photographs) to 100 bytes (noise) of the 236 that it may touch.
PER_KEY = 100


@dataclass(frozen=True)
class Attention:
    """One call of the package's attention operator, at the largest of SIZES."""

    step: int  # which operator of the pass it is
    pixels: int
    batch: int
    queries: int
    keys: int
    query_channels: int
    value_channels: int
    compiled: bool  # by the compiled kernel, memory-linear whatever the features are
    copies: int  # bytes of the tensors that it has to copy first, or its result after

    def scratch(self, pixels: float, device: str) -> float:
        """Bytes inside the operator on an image of so many pixels."""
        queries, keys = self._tokens(pixels)
        if self.compiled:
            packed = 4.0 * self.batch * keys * self.query_channels
            threads = torch.get_num_threads() * PER_KEY * keys
            return self.copies * pixels / self.pixels + packed + threads
        copies = 4 * self.batch * keys * (self.query_channels + self.value_channels)
        images, rows = next(tiles(self.batch, queries, keys, device))
        held = (images.stop - images.start) * (rows.stop - rows.start) * keys
        # Scores in float32; next to them the candidates, as booleans, and half the scores again
        # for maxima, indices and survivors.
        return copies + 7.0 * held

    def seconds(self, pixels: float, speed: Speed) -> float:
        """What finding and mixing the survivors of all scores takes."""
        queries, keys = self._tokens(pixels)
        rate = speed.compiled if self.compiled else speed.plain
        return self.batch * rate.seconds(queries, keys, self.query_channels)

    def _tokens(self, pixels: float) -> tuple[int, int]:
        growth = pixels / self.pixels
        return max(1, round(self.queries * growth)), max(1, round(self.keys * growth))


@dataclass(frozen=True)
class Cost:
    """Memory and arithmetic of one forward pass as functions of the number of LR pixels."""

    live: np.ndarray  # [3, S]: coefficients of 1, p, p² of the bytes alive after operator i
    arithmetic: np.ndarray  # [3]: the same of the floating-point operations
    attentions: tuple[Attention, ...]
    device: str

    def peak(self, pixels: int) -> int:
        """Bytes that a pass over so many pixels needs beside weights and input."""
        alive = np.array([1.0, pixels, float(pixels) ** 2]) @ self.live  # [S]
        for attention in self.attentions:
            alive[min(attention.step, len(alive) - 1)] += attention.scratch(pixels, self.device)
        return int(alive.max())

    def seconds(self, pixels: int, speed: Speed) -> float:
        """How long a pass over so many pixels takes on a machine of that speed."""
        operations = float(np.array([1.0, pixels, float(pixels) ** 2]) @ self.arithmetic)
        attentions = sum(a.seconds(pixels, speed) for a in self.attentions)
        return operations / speed.arithmetic + attentions


@dataclass
class _Meter(TorchDispatchMode):
    """Counts the bytes alive after every operator, and the operations."""

    pixels: int
    live: list[int] = field(default_factory=list[int])
    flops: float = 0.0
    attentions: list[Attention] = field(default_factory=list[Attention])

    def __post_init__(self) -> None:
        # Not before a network is measured: it brings Triton along, which takes a fifth of a second.
        from torch.utils.flop_counter import flop_registry

        super().__init__()
        self._formulas = flop_registry
        self._sizes: dict[int, int] = {}
        self._total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Never compiled; saying so spares importing the compiler, which takes a second."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = {_storage(t) for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_iter(out):
            if isinstance(tensor, Tensor) and _storage(tensor) not in given:
                self._watch(tensor)
        if func.name() == "hspan::attention":
            self._attend(*args)
        elif formula := self._formulas.get(func.overloadpacket):
            self.flops += formula(*args, **kwargs, out_val=out)
        self.live.append(self._total)
        return out

    def _watch(self, tensor: Tensor) -> None:
        storage, key = tensor.untyped_storage(), _storage(tensor)
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self._total += storage.nbytes()
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._total -= self._sizes.pop(key)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, *options: Any) -> None:
        batch, queries, query_channels = query.shape
        keys, value_channels = value.shape[1:]
        self.attentions.append(
            Attention(
                step=len(self.live),
                pixels=self.pixels,
                batch=batch,
                queries=queries,
                keys=keys,
                query_channels=query_channels,
                value_channels=value_channels,
                compiled=_compiled(query, options[-1]),
                copies=_copies(query, key, value),
            )
        )


def _compiled(query: Tensor, backend: str) -> bool:
    call = Call(query.device.type, query.dtype)
    return backend in ("auto", "cpu", "native") and BACKENDS["native"].why_not(call) is None


def _copies(query: Tensor, key: Tensor, value: Tensor) -> int:
    """Bytes that the compiled kernel takes to read [B, N, C] contiguous, in its own dtype."""
    dtype = torch.promote_types(compute_dtype(query.dtype), compute_dtype(value.dtype))
    count = sum(t.numel() for t in (query, key, value) if t.dtype != dtype or not t.is_contiguous())
    if value.dtype != dtype:
        count += query.shape[0] * query.shape[1] * value.shape[2]  # the result, before it is cast
    return count * dtype.itemsize


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def measure(run: Callable[[Tensor], Tensor], device: torch.device) -> Cost:
    """Run a network on three small images and return what images of any size will cost.

    Args:
        run: the network as it will be called: [1, 3, h, w] float32 → [1, 3, s·h, s·w].
        device: where its weights are.
    """
    meters: list[_Meter] = []
    for size in SIZES:
        image = torch.full((1, 3, size, size), 0.5, device=device)
        meter = _Meter(size * size)
        # Not inference mode: dispatch modes see more of the operators without it.
        with torch.no_grad(), meter:
            run(image)
        meters.append(meter)
    powers = np.array([[1.0, s**2, s**4] for s in SIZES])
    if len({len(m.live) for m in meters}) == 1:
        live = np.array([m.live for m in meters], dtype=float)  # [3, S]
    else:  # the size decides which operators run: only the peaks can be compared
        live = np.array([[max(m.live)] for m in meters], dtype=float)
    # A quadratic part of a billionth is rounding; at 20,000² pixels it would still be terabytes.
    coefficients = np.linalg.solve(powers, live)
    coefficients[2][coefficients[2] * powers[2, 2] < 1e-3 * live[2]] = 0.0
    arithmetic = np.linalg.solve(powers, np.array([m.flops for m in meters]))
    return Cost(
        coefficients, np.maximum(arithmetic, 0.0), tuple(meters[-1].attentions), device.type
    )

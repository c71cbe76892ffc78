"""How fast a kind of machine computes: constants, so that plans don't depend on how busy one is.

Networks are a number of floating-point operations (``_meter``) and calls of the attention. The
attention forms all N·M products q·k, looks at each score, and spends a little on every query:

    seconds = N·M·(2·C / products + pair) + N·query

The constants are processor time of one thread (AMD EPYC, Zen 4, without AMX), on features of
hspan-light of two photographs, N from 1,024 to 16,384 and C of 24, 96 and 384; over these they
fit the compiled kernels within 40 %, and the pure-torch path within a factor of 2. A machine may be
twice as fast or slow: what decides between tiles is mostly the ratio of attention to convolutions.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from hspan.hardware import Precision
from hspan.ops import _library


@dataclass(frozen=True)
class Rate:
    """What the attention takes, all threads together."""

    products: float  # floating-point operations of q·k a second
    pair: float  # seconds for each pair of a query and a key
    query: float  # seconds for each query

    def seconds(self, queries: int, keys: int, channels: int) -> float:
        """Time of one image's attention."""
        return queries * (keys * (2 * channels / self.products + self.pair) + self.query)


@dataclass(frozen=True)
class Speed:
    """What decides how long a network takes."""

    arithmetic: float  # floating-point operations of convolutions and matrix products a second
    compiled: Rate  # attention by the compiled kernels
    plain: Rate  # in PyTorch


# One thread.
_ARITHMETIC: dict[Precision, float] = {"fp32": 95e9, "bf16": 198e9, "fp16": 198e9}
_PLAIN = Rate(products=100e9, pair=8e-9, query=5e-6)
_COMPILED = {
    "portable": Rate(products=27e9, pair=3.5e-9, query=5e-6),
    "avx2": Rate(products=77e9, pair=0.3e-9, query=5e-6),
    "avx512": Rate(products=77e9, pair=0.2e-9, query=5e-6),
    "avx512_bf16": Rate(products=146e9, pair=0.2e-9, query=5e-6),
}
# Not measured: the order of magnitude of a GPU, and what the attention costs beside convolutions
# as it was measured in PyTorch on processors.
_GPU_ARITHMETIC: dict[Precision, float] = {"fp32": 20e12, "bf16": 60e12, "fp16": 60e12}
_GPU_ATTENTION = Rate(products=20e12, pair=1e-11, query=1e-9)


def speed_of(device: str, precision: Precision, threads: int | None = None) -> Speed:
    """The speed that is expected of this machine.

    Args:
        device: its type, as torch calls it.
        precision: of the network.
        threads: of the processor; None is as many as torch uses.
    """
    if device != "cpu":
        return Speed(_GPU_ARITHMETIC[precision], _GPU_ATTENTION, _GPU_ATTENTION)
    threads = threads or torch.get_num_threads()
    compiled = _COMPILED.get(_instruction_set(), _COMPILED["avx512_bf16"])
    return Speed(
        _ARITHMETIC[precision] * threads, _shared(compiled, threads), _shared(_PLAIN, threads)
    )


def _shared(rate: Rate, threads: int) -> Rate:
    return Rate(rate.products * threads, rate.pair / threads, rate.query / threads)


def _instruction_set() -> str:
    """The one that the compiled kernels use. AMX speeds up both sides, and isn't told apart."""
    return os.environ.get("HSPAN_ISA") or (_library.instruction_sets() or ["portable"])[-1]

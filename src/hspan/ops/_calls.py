"""What calls of the compiled kernels share: what they return, and how many threads they get."""

from enum import IntEnum

import torch
from torch import Tensor

SMALL = 2**20  # products below which starting a second thread costs more than it saves


class Code(IntEnum):
    """What a function of native/hspan.h returns."""

    DONE = 0
    KEYS_NOT_FINITE = 1
    OUT_OF_MEMORY = 2
    FLAT = 3
    ELSEWHERE = 4


def threads_for(query: Tensor, key: Tensor, value: Tensor) -> int:
    """Threads that an attention call with these inputs, [B, N, C], [B, M, C], [B, M, D], gets."""
    batch, queries, channels = query.shape
    products = batch * queries * key.shape[1] * (channels + value.shape[2])
    return 1 if products < SMALL else torch.get_num_threads()


def checked(code: int, *expected: Code, smaller: str) -> Code:
    """Return what a function returned, one of the expected codes.

    Raises:
        MemoryError: It is another one; ``smaller`` says what to use instead.
    """
    if code not in expected:
        raise MemoryError(f"not enough memory for the attention: use {smaller}")
    return Code(code)

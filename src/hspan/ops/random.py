"""Random numbers that a seed determines, whatever the device.

A ``torch.Generator`` can't be made inside a compiled graph; this operator makes it in one node.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def seeded_normal(seed: int, draws: int, shape: Sequence[int], like: Tensor) -> Tensor:
    """Draw normal numbers on the processor: the same for a seed on every device.

    Args:
        seed: of the generator.
        draws: calls of the generator, one after another; each fills one ``shape``.
        shape: of one draw.
        like: gives the device and the dtype of the result.

    Returns:
        [draws, *shape], standard normal.
    """
    return torch.ops.hspan.seeded_normal.default(seed, draws, list(shape), like)


torch.library.define(
    "hspan::seeded_normal", "(int seed, int draws, SymInt[] shape, Tensor like) -> Tensor"
)


@torch.library.impl("hspan::seeded_normal", "default")
def _seeded_normal(seed: int, draws: int, shape: Sequence[int], like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(shape, generator=generator) for _ in range(draws)]).to(like)


def _seeded_normal_shape(seed: int, draws: int, shape: Sequence[int], like: Tensor) -> Tensor:
    return like.new_empty(draws, *shape)


torch.library.register_fake("hspan::seeded_normal", _seeded_normal_shape)

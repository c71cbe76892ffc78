"""Geometric self-ensemble ("+" in the paper's tables): the mean over 8 flips and rotations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Network = Callable[[Tensor], Tensor]

TRANSFORMS = tuple((turns, flip) for flip in (False, True) for turns in range(4))


def transform(image: Tensor, turns: int, flip: bool) -> Tensor:
    """Turn [..., H, W] by ``turns`` times 90° counter-clockwise, then mirror left and right."""
    turned = torch.rot90(image, turns, (-2, -1))
    return turned.flip(-1) if flip else turned


def invert(image: Tensor, turns: int, flip: bool) -> Tensor:
    """Undo ``transform`` exactly: pixels only change places."""
    return torch.rot90(image.flip(-1) if flip else image, -turns, (-2, -1))


def self_ensemble(network: Network) -> Network:
    """Wrap a network so that it returns its mean over the 8 transforms, in float32.

    Args:
        network: [B, 3, H, W] → [B, 3, sH, sW].

    Returns:
        A function of the same shapes. One transform is in memory at a time.
    """

    def mean(image: Tensor) -> Tensor:
        total: Tensor | None = None
        for turns, flip in TRANSFORMS:
            turned = transform(image, turns, flip).contiguous(memory_format=torch.channels_last)
            part = invert(network(turned).float(), turns, flip)
            total = part.clone() if total is None else total.add_(part)
        assert total is not None
        return total.div_(len(TRANSFORMS))

    return mean

"""Filtering along rows or columns as a chain of small dense matrix products.

A one-dimensional filter whose output n reads only inputs near n is a banded matrix. It is cut into
blocks of consecutive outputs; each block is a small dense matrix over the few inputs that it reads,
so that all the work is done by BLAS and only one block's inputs exist in floating point at a time.

Departure from a tap-by-tap filter: a NaN or infinite input reaches all outputs of its block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 32  # outputs per matrix: large enough for BLAS, small enough to waste little on zeros


@dataclass(frozen=True)
class Band:
    """Outputs start:stop are `weights` [stop - start, last - first] times inputs first:last."""

    start: int
    stop: int
    first: int
    last: int
    weights: np.ndarray


def make_bands(indices: np.ndarray, weights: np.ndarray) -> list[Band]:
    """Cut a sparse filter into bands.

    Args:
        indices: [N, P] inputs that each of N outputs reads; an input may be named repeatedly.
        weights: [N, P] float64, their weights.
    """
    bands: list[Band] = []
    for start in range(0, len(indices), BLOCK):
        block = indices[start : start + BLOCK]
        first, last = int(block.min()), int(block.max()) + 1
        dense = np.zeros((len(block), last - first))
        rows = np.broadcast_to(np.arange(len(block))[:, None], block.shape)
        np.add.at(dense, (rows, block - first), weights[start : start + BLOCK])
        bands.append(Band(start, start + len(block), first, last, dense))
    return bands


def filter_array(
    image: np.ndarray, bands: Sequence[Band], *, rows: bool, dtype: np.dtype, out: np.ndarray
) -> None:
    """Filter an array [..., H, W] down its rows' index, or along each row, into `out`.

    Args:
        image: [..., H, W].
        bands: the filter.
        rows: True combines whole rows (the height changes), False columns.
        dtype: float64 or float32, used for the arithmetic.
        out: [..., N, W] or [..., H, N]; an integer dtype is rounded half away from zero and
            clipped to its range.
    """
    for band in bands:
        weights = band.weights.astype(dtype, copy=False)
        if rows:
            part = image[..., band.first : band.last, :].astype(dtype, order="C", copy=False)
            target = out[..., band.start : band.stop, :]
            result = weights @ part
        else:
            part = image[..., band.first : band.last].astype(dtype, order="C", copy=False)
            target = out[..., band.start : band.stop]
            result = part @ weights.T
        if out.dtype.kind == "u":
            # Below zero everything is clipped, so adding a half and truncating rounds correctly.
            result += 0.5
            np.clip(result, 0, np.iinfo(out.dtype).max, out=result)
        target[...] = result


def filter_tensor(image: Tensor, bands: Sequence[Band], *, rows: bool) -> Tensor:
    """Filter a floating-point tensor [..., H, W] in its own dtype; differentiable."""
    import torch

    parts: list[Tensor] = []
    for band in bands:
        weights = torch.as_tensor(band.weights, dtype=image.dtype, device=image.device)
        if rows:
            parts.append(weights @ image[..., band.first : band.last, :])
        else:
            parts.append(image[..., band.first : band.last] @ weights.T)
    return torch.cat(parts, dim=-2 if rows else -1)

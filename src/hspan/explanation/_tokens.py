"""What an attention module compares, and where that lies on the image.

Modules are found by their class, so it doesn't matter what network they are in or how they came
there (``add_hspa``, ``replace_softmax``). Of those that declare a weighting, two kinds are left
out: bucket attention (NLSN), where a position meets a changing sample of the others several times
over, and cross-scale attention (CSNLN), whose keys are overlapping patches of smaller features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from hspan.explanation._grid import TokenGrid, grid_of
from hspan.models.san import SAN
from hspan.modules import HSPA, NLA
from hspan.modules.attention import InScaleAttention
from hspan.modules.embedded_gaussian import EmbeddedGaussian
from hspan.modules.weighting import ReplaceableWeighting, Weighting, weigh
from hspan.ops import attention_support, soft_threshold

_SCORES = 2**22  # computed at once where every query must be looked at: 16 MiB

KINDS = (HSPA, NLA, EmbeddedGaussian)


@dataclass(frozen=True)
class Tokens:
    """Query and key of one application of an attention module to one image.

    Attributes:
        query: [N, C].
        key: [M, C].
        queries: where the queries lie.
        keys: where the keys lie.
        kept: [M] places of the keys among ``keys``, where a sample of them was drawn; else None.
        weighting: how scores become weights.
        topk: truncation; None is exact.
        side: positions of the features per side of a query.
        shared_out: every key shares its value out among the queries (RNAN) instead of every query
            taking shares of all values.
    """

    query: Tensor
    key: Tensor
    queries: TokenGrid
    keys: TokenGrid
    kept: Tensor | None
    weighting: Weighting
    topk: int | None
    side: int = 1
    shared_out: bool = False

    @property
    def sparse(self) -> bool:
        """Whether most weights are exactly zero."""
        return self.weighting == "soft-threshold"

    def places(self, indices: Tensor) -> Tensor:
        """Where keys lie among the tokens of ``keys``."""
        return indices if self.kept is None else self.kept[indices]

    def scores(self, query: int) -> Tensor:
        """Similarities of one query to all keys, Eq. (7): [M]."""
        return self.key @ self.query[query]

    def weights(self, query: int, weighting: Weighting) -> Tensor:
        """What one query takes of every key's value: [M]; sums to 1 unless ``shared_out``.

        Args:
            query: its index.
            weighting: the layer's own, or the other one over the same scores, Eqs. (6) and (8).
        """
        if self.shared_out:
            return self._shares(query, weighting)
        scores = self.scores(query)
        if weighting == "soft-threshold":
            return soft_threshold(scores, topk=self.topk)
        return weigh(scores, "softmax")

    def _shares(self, query: int, weighting: Weighting) -> Tensor:
        """The shares that every key gives to one query, from rows over all queries."""
        if weighting == "soft-threshold":
            offsets, indices, weights = attention_support(self.key[None], self.query[None])
            rows = torch.repeat_interleave(offsets[0].diff())
            mine = indices == query
            return self.key.new_zeros(len(self.key)).index_put_((rows[mine],), weights[mine])
        step = max(1, _SCORES // len(self.query))
        parts = [weigh(part @ self.query.T, "softmax")[:, query] for part in self.key.split(step)]
        return torch.cat(parts)


@dataclass(frozen=True)
class NotExplained:
    """Why a module's attention isn't explained."""

    reason: str


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules that compare positions, explained here or not, by path in the network's order."""
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, KINDS) or isinstance(cast("Any", module), ReplaceableWeighting)
    }


def tokens_of(
    model: nn.Module, module: nn.Module, x: Tensor, call: int, image: tuple[int, int]
) -> Tokens | NotExplained:
    """Query and key of a module, as it computes them.

    Args:
        model: that the module is in.
        module: of ``attention_modules``.
        x: [1, C, H, W], what the module was given.
        call: how often it had been called before in this pass.
        image: height and width of the LR image.
    """
    if isinstance(module, HSPA) and module.topk == 0:
        return NotExplained("it is switched off (topk = 0)")
    if not isinstance(module, KINDS):
        return NotExplained(f"{type(module).__name__} has no fixed set of keys to name")
    height, width = x.shape[-2:]
    size = (height, width)
    grid = grid_of(size, image)
    if isinstance(model, SAN) and isinstance(module, EmbeddedGaussian):
        grid = _quarter(size, call, image, 2 * module.pool)
    if grid is None:
        return NotExplained(
            f"its features of {width}×{height} don't lie on the image of {image[1]}×{image[0]} "
            "pixels by a whole factor"
        )
    if isinstance(module, EmbeddedGaussian):
        return _embedded_gaussian(module, x, grid)
    query, key, _ = module.tokens(x)
    grid = grid.grouped(module.patch, whole=False)
    found = Tokens(query[0], key[0], grid, grid, None, "soft-threshold", None, module.patch)
    if isinstance(module, HSPA):
        return replace(found, topk=module.topk)
    samples = module.samples
    if samples is not None and samples < len(grid):
        kept = module._draw(1, len(grid))[0]
        found = replace(found, key=key[0, kept.to(key.device)], kept=kept)
    return replace(found, weighting=module.weighting)


def _embedded_gaussian(module: EmbeddedGaussian, x: Tensor, grid: TokenGrid) -> Tokens:
    query = module.query(x).flatten(2).transpose(1, 2)  # [1, N, C]
    return Tokens(
        query[0],
        module._pooled(module.key(x))[0],
        grid,
        grid.grouped(module.pool, whole=True),
        None,
        module.weighting,
        None,
        shared_out=module.weigh_queries,
    )


def _quarter(size: tuple[int, int], call: int, image: tuple[int, int], minimum: int) -> TokenGrid:
    """SAN applies its block to four quarters, row by row; the first halves are the smaller.

    Images below ``minimum`` are padded to it before.
    """
    below, right = divmod(call % 4, 2)
    height, width = (max(side, minimum) for side in image)
    left, top = float(width // 2 * right), float(height // 2 * below)
    return TokenGrid(*size, 1.0, image, left, top)


def adds_to_input(module: nn.Module) -> bool:
    """Whether a module adds its attention to what it was given, or gives the attention alone."""
    return not isinstance(module, InScaleAttention)


def without(module: nn.Module, x: Tensor) -> Tensor:
    """What a module gives when its attention is switched off."""
    return x if adds_to_input(module) else torch.zeros_like(x)

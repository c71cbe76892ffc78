"""One layer's part of an explanation, from its query and key."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from hspan.errors import InputError
from hspan.explanation._grid import TokenGrid
from hspan.explanation._result import LayerExplanation, Source, Sparsity
from hspan.explanation._tokens import Tokens
from hspan.ops import attention_support

_LISTED = 256  # sources of softmax that are listed; all have some weight
_QUERIES = 8192  # whose supports are held at once


def explain_layer(
    path: str,
    module: nn.Module,
    call: int,
    tokens: Tokens,
    query: int,
    added: float | None,
    *,
    maps: bool,
) -> LayerExplanation:
    """Say what one query was built from.

    Args:
        path: of the module.
        module: that compared the tokens.
        call: which of the module's applications.
        tokens: what was compared.
        query: the asked one.
        added: see ``LayerExplanation``.
        maps: look at all other queries too.

    Raises:
        InputError: similarities that aren't finite.
    """
    thresholded = tokens.weights(query, "soft-threshold").cpu()
    softmax = tokens.weights(query, "softmax").cpu()
    if not bool((thresholded.isfinite() & softmax.isfinite()).all()):
        raise InputError(f"the features at {path} aren't finite: the weights are damaged")
    weights = thresholded if tokens.sparse else softmax
    support = weights.nonzero()[:, 0]
    heaviest = support[weights[support].argsort(descending=True, stable=True)]
    listed = heaviest if tokens.sparse else heaviest[:_LISTED]
    middle = tokens.queries.centres(torch.tensor([query]))
    places = tokens.places(listed)
    distances = (tokens.keys.centres(places) - middle).norm(dim=1)
    sources = tuple(
        Source(tokens.keys.rectangle(place), weight, even, distance)
        for place, weight, even, distance in zip(
            places.tolist(),
            weights[listed].tolist(),
            softmax[listed].tolist(),
            distances.tolist(),
            strict=True,
        )
    )
    total = max(float(softmax.sum(dtype=torch.float64)), 1e-30)
    running = softmax.sort(descending=True).values.cumsum(0, dtype=torch.float64)
    found = _maps(tokens) if maps and tokens.sparse and not tokens.shared_out else None
    return LayerExplanation(
        path=path,
        call=call,
        module=type(module).__name__,
        weighting=tokens.weighting,
        topk=tokens.topk,
        queries=tokens.queries,
        keys=tokens.keys,
        here=tokens.queries.rectangle(query),
        keys_total=len(tokens.key),
        support=len(support),
        sources=sources,
        soft_threshold_weights=_laid_out(thresholded, tokens),
        softmax_weights=_laid_out(softmax, tokens),
        softmax_on_support=float(softmax[thresholded > 0].sum(dtype=torch.float64)) / total,
        softmax_for_90=int((running < 0.9 * total).sum()) + 1,
        added=added,
        sparsity=None if found is None else _sparsity(*found, keys=len(tokens.key)),
        support_map=None if found is None else _image(found[0], tokens.queries),
        distance_map=None if found is None else _image(found[1], tokens.queries),
    )


def _laid_out(weights: Tensor, tokens: Tokens) -> np.ndarray:
    """Weights [M] at their places; zero where no key was drawn."""
    everywhere = weights.new_zeros(len(tokens.keys))
    everywhere[tokens.places(torch.arange(len(weights)))] = weights
    return _image(everywhere, tokens.keys)


def _image(values: Tensor, grid: TokenGrid) -> np.ndarray:
    return values.view(grid.rows, grid.columns).numpy()


def _maps(tokens: Tokens) -> tuple[Tensor, Tensor]:
    """Size of every query's support, and the weighed distance to it: [N] and [N].

    The supports of some queries at a time come as compressed sparse rows; never N×M scores.
    """
    sizes: list[Tensor] = []
    distances: list[Tensor] = []
    keys = tokens.keys.centres(tokens.places(torch.arange(len(tokens.key))))
    middles = tokens.queries.centres()
    for first in range(0, len(tokens.query), _QUERIES):
        some = slice(first, first + _QUERIES)
        offsets, indices, weights = attention_support(
            tokens.query[None, some], tokens.key[None], topk=tokens.topk
        )
        size = offsets[0].diff().cpu()
        rows = torch.repeat_interleave(size)
        far = (keys[indices.cpu()] - middles[some][rows]).norm(dim=1)
        sizes.append(size)
        distances.append(torch.zeros(len(size)).index_add_(0, rows, far * weights.cpu().float()))
    return torch.cat(sizes), torch.cat(distances)


def _sparsity(sizes: Tensor, distances: Tensor, *, keys: int) -> Sparsity:
    counts = sizes.double()
    return Sparsity(
        mean=float(counts.mean()),
        median=float(counts.quantile(0.5)),
        smallest=int(sizes.min()),
        largest=int(sizes.max()),
        zeros=1 - float(counts.mean()) / keys,
        mean_distance=float(distances.double().mean()),
    )

"""What the attention of a network looks at: maps of weights for one query, supports of all.

Works on every NLA and HSPA of a network, in the order in which they run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hspan.errors import UsageError
from hspan.modules import HSPA, NLA
from hspan.ops import attention_support, soft_threshold

Attention = HSPA | NLA


@dataclass(frozen=True)
class AttentionMap:
    """The weights of one query in one layer.

    Attributes:
        layer: counted from 1.
        weights: [H, W] of the image's pixels, or of its patches; they sum to 1.
        support: weights above zero.
    """

    layer: int
    weights: Tensor
    support: int


def attention_inputs(network: nn.Module, image: Tensor) -> list[tuple[Attention, Tensor]]:
    """Run a network and keep what its attention layers get.

    Args:
        network: any that holds NLA or HSPA.
        image: [1, 3, H, W] in [0, 1].

    Returns:
        Each layer, as often as it runs, with its features [1, C, H, W].

    Raises:
        UsageError: the network holds neither.
    """
    seen: list[tuple[Attention, Tensor]] = []

    def keep(module: Attention, arguments: tuple[Tensor, ...]) -> None:
        seen.append((module, arguments[0].detach()))

    layers = [module for module in network.modules() if isinstance(module, HSPA | NLA)]
    if not layers:
        raise UsageError(f"{type(network).__name__} holds no attention whose weights can be shown")
    hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
    try:
        with torch.inference_mode():
            network.eval()(image)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def attention_maps(network: nn.Module, image: Tensor, at: tuple[int, int]) -> list[AttentionMap]:
    """Weights of one pixel's query in every layer.

    Args:
        network: any that holds NLA or HSPA.
        image: [1, 3, H, W] in [0, 1].
        at: column and row of an LR pixel.

    Raises:
        UsageError: the pixel lies outside the image, or there is no attention.
    """
    x, y = at
    height, width = image.shape[-2:]
    if not (0 <= x < width and 0 <= y < height):
        raise UsageError(f"pixel ({x}, {y}) lies outside an image of {width}×{height}")
    maps: list[AttentionMap] = []
    for layer, (module, features) in enumerate(attention_inputs(network, image), start=1):
        rows, columns = -(-height // module.patch), -(-width // module.patch)
        with torch.inference_mode():
            query, key, _ = module.tokens(features)
            place = (y // module.patch) * columns + x // module.patch
            weights = _weights(module, query[:, place : place + 1], key)
        maps.append(AttentionMap(layer, weights.view(rows, columns), int((weights > 0).sum())))
    return maps


def support_sizes(network: nn.Module, image: Tensor) -> Tensor:
    """How many keys each query of each HSPA holds on to, without truncation: int64, one row."""
    sizes: list[Tensor] = []
    for module, features in attention_inputs(network, image):
        if isinstance(module, HSPA):
            with torch.inference_mode():
                query, key, _ = module.tokens(features)
                offsets, _, _ = attention_support(query, key)
            sizes.append(offsets.diff(dim=1).flatten())
    return torch.cat(sizes)


def _weights(module: Attention, query: Tensor, key: Tensor) -> Tensor:
    """Weights [M] of one query [1, 1, C] for keys [1, M, C], as the layer computes them."""
    scores = (query.float() @ key.float().transpose(1, 2))[0, 0]
    if isinstance(module, HSPA):
        return soft_threshold(scores, topk=module.topk)
    if module.samples is None or module.samples >= key.shape[1]:
        return _normalised(module, scores)
    drawn = module._draw(1, key.shape[1])[0]
    weights = torch.zeros_like(scores)
    weights[drawn] = _normalised(module, scores[drawn])
    return weights


def _normalised(module: NLA, scores: Tensor) -> Tensor:
    return scores.softmax(0) if module.weighting == "softmax" else soft_threshold(scores)


def as_json(maps: Mapping[str, list[AttentionMap]]) -> dict[str, list[dict[str, float]]]:
    """Largest weight and support of every map."""
    return {
        title: [
            {"layer": m.layer, "largest": float(m.weights.max()), "support": m.support}
            for m in layers
        ]
        for title, layers in maps.items()
    }

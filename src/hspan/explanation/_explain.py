"""Asking a network where a pixel came from: one pass, and one more for every layer left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hspan.errors import InputError, UsageError
from hspan.explanation._layer import explain_layer
from hspan.explanation._result import Explanation, LayerExplanation, SwitchedOff
from hspan.explanation._tokens import (
    NotExplained,
    Tokens,
    adds_to_input,
    attention_modules,
    tokens_of,
    without,
)
from hspan.imaging import Picture, read_image
from hspan.inference._kinds import open_image
from hspan.inference.planning import network_cost, plan
from hspan.models.surgery._paths import match_modules
from hspan.weights import load_model

Progress = Callable[[int, int], None]
"""Called with the number of finished passes through the network and of all passes."""


def explain(
    model: nn.Module | str | PathLike[str],
    image: str | PathLike[str] | Picture | Any,
    at: tuple[int, int],
    *,
    layers: str | Sequence[str] | None = None,
    scale: int | None = None,
    maps: bool = True,
    switch_off: bool = True,
    progress: Progress | None = None,
) -> Explanation:
    """Say which pixels of the image every attention layer built one pixel from.

    The network runs on the whole image, in float32, without tiles. The asked query's weights come
    from its scores against all keys, those of the maps from ``attention_support``: an N×N matrix is
    never held. Layers are found by their class: HSPA, NLA and the non-local blocks of SAN and RNAN,
    whatever network they stand in.

    Attention is one step among many: the features that it compares and mixes hold each position's
    neighbourhood already, as far as the convolutions before it reach.

    Args:
        model: a network, or what ``load_model`` takes.
        image: what ``Upscaler`` takes, one image of it.
        at: x (column) and y (row) of an LR pixel, from 0.
        layers: paths of modules or patterns, as in ``add_hspa``; None is all attention.
        scale: of a model that is named.
        maps: also how many pixels every other place was built from, and how far away they are.
        switch_off: also how the result changes without each layer's attention: one more pass
            through the network for every layer.
        progress: see ``Progress``.

    Raises:
        UsageError: ``at`` lies outside the image, no layer has such a path, or the network has no
            attention.
        InputError: the image can't be read, or is too large for the memory that is free.
    """
    begin = time.perf_counter()
    if isinstance(model, nn.Module):
        network, name = model, type(model).__name__
    else:
        network, name = load_model(model, scale=scale), str(model)
    x = _rgb(image)
    height, width = x.shape[-2:]
    _check_place(at, width, height)
    chosen = _chosen(network, layers)
    weight = next(network.parameters(), x)
    with _evaluating(network), torch.inference_mode():
        _check_memory(network, height, width)
        x = x.to(weight.device, weight.dtype)
        found, left_out, sr = _look(network, chosen, x, at, maps=maps)
        paths = list(dict.fromkeys(layer.path for layer in found)) if switch_off else []
        passes = 1 + len(paths)
        if progress is not None:
            progress(1, passes)
        factor = sr.shape[-1] // width
        for i, path in enumerate(paths):
            off = _switched_off(network, chosen[path], x, sr, at)
            found = [replace(f, switched_off=off) if f.path == path else f for f in found]
            if progress is not None:
                progress(2 + i, passes)
    if not found:
        reasons = "; ".join(f"{path}: {why}" for path, why in left_out.items())
        raise UsageError(f"{name} has attention, but none that can be explained ({reasons})")
    return Explanation(
        model=name,
        scale=factor,
        size=(width, height),
        at=(int(at[0]), int(at[1])),
        layers=tuple(found),
        left_out=left_out,
        image=_eight_bits(x),
        result=_eight_bits(sr),
        seconds=time.perf_counter() - begin,
    )


def _look(
    network: nn.Module,
    chosen: dict[str, nn.Module],
    x: Tensor,
    at: tuple[int, int],
    *,
    maps: bool,
) -> tuple[list[LayerExplanation], dict[str, str], Tensor]:
    """Run the network once and explain the layers as it comes to them."""
    found: list[LayerExplanation] = []
    left_out: dict[str, str] = {}
    calls = dict.fromkeys(chosen, 0)
    size = (x.shape[-2], x.shape[-1])

    def watch(path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            tokens = tokens_of(network, module, inputs[0], calls[path], size)
            call, calls[path] = calls[path], calls[path] + 1
            if isinstance(tokens, NotExplained):
                left_out[path] = tokens.reason
                return
            query = tokens.queries.token_at(*at)
            if query is not None:
                added = _added(module, inputs[0], output, tokens, query)
                found.append(explain_layer(path, module, call, tokens, query, added, maps=maps))

        return hook

    handles = [module.register_forward_hook(watch(path)) for path, module in chosen.items()]
    try:
        sr = network(x)
    finally:
        for handle in handles:
            handle.remove()
    return found, left_out, sr


def _added(
    module: nn.Module, x: Tensor, output: Tensor, tokens: Tokens, query: int
) -> float | None:
    """Length of what a layer adds at one token, relative to what it adds it to."""
    if not adds_to_input(module):
        return None
    side = tokens.side
    row, column = divmod(query, tokens.queries.columns)
    part = (
        ...,
        slice(row * side, (row + 1) * side),
        slice(column * side, (column + 1) * side),
    )
    before = x[part].double()
    length = float(before.norm())
    return float((output[part].double() - before).norm()) / length if length else None


def _switched_off(
    network: nn.Module, module: nn.Module, x: Tensor, sr: Tensor, at: tuple[int, int]
) -> SwitchedOff:
    own = module.__dict__.get("forward")  # where somebody replaced the class's
    module.forward = partial(without, module)
    try:
        other = network(x)
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own
    change = (sr.clamp(0, 1) - other.clamp(0, 1)).abs().mean(dim=1)[0] * 255
    difference = change.float().cpu().numpy()
    s = sr.shape[-1] // x.shape[-1]
    column, row = (c * s for c in at)
    return SwitchedOff(
        difference,
        here=float(difference[row : row + s, column : column + s].mean()),
        mean=float(difference.mean(dtype=np.float64)),
        largest=float(difference.max()),
    )


def _chosen(network: nn.Module, layers: str | Sequence[str] | None) -> dict[str, nn.Module]:
    known = attention_modules(network)
    if not known:
        raise UsageError(
            f"{type(network).__name__} has no attention that can be explained (HSPA, NLA and the "
            "non-local blocks of SAN and RNAN can be); hspan.add_hspa inserts HSPA"
        )
    if layers is None:
        return known
    named = match_modules(network, layers)
    chosen = {path: known[path] for path in named if path in known}
    if not chosen:
        raise UsageError(f"{', '.join(named)} isn't attention; attention is in {', '.join(known)}")
    return chosen


def _rgb(image: object) -> Tensor:
    """[1, 3, H, W] float32 in [0, 1], colours multiplied by alpha as ``Upscaler`` does."""
    source = read_image(image) if isinstance(image, (str, PathLike)) else image
    opened, _ = open_image(source)
    if len(opened) != 1:
        raise UsageError(f"explain takes one image at a time, got a batch of {len(opened)}")
    pixels = _unit(opened[0].pixels)
    if opened[0].alpha is not None:
        pixels = pixels * _unit(opened[0].alpha)[:, :, None]
    x = torch.from_numpy(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy())
    if not bool(x.isfinite().all()):
        raise InputError("the image holds values that aren't finite")
    return x.permute(2, 0, 1).unsqueeze(0)


def _unit(values: np.ndarray) -> np.ndarray:
    ceiling = np.iinfo(values.dtype).max if values.dtype.kind == "u" else 1
    return values.astype(np.float32) / np.float32(ceiling)


def _eight_bits(x: Tensor) -> np.ndarray:
    levels = (x[0].float().clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8)
    return levels.permute(1, 2, 0).cpu().contiguous().numpy()


def _check_place(at: tuple[int, int], width: int, height: int) -> None:
    x, y = at
    if x != int(x) or y != int(y) or not (0 <= x < width and 0 <= y < height):
        raise UsageError(
            f"({x}, {y}) lies outside the image of {width}×{height} pixels: x goes from 0 to "
            f"{width - 1}, y from 0 to {height - 1}"
        )


def _check_memory(network: nn.Module, height: int, width: int) -> None:
    """Networks run here on the whole image; better a sentence now than an end without one."""
    scale = getattr(getattr(network, "config", network), "scale", 4)
    whole = plan(network_cost(network), height, width, scale=int(scale), tile=0)
    if whole.predicted_bytes > whole.available_bytes:
        raise InputError(
            f"{width}×{height} pixels need about {whole.predicted_bytes / 1e9:.1f} GB of memory in "
            f"one piece, and {whole.available_bytes / 1e9:.1f} GB are free: cut out the part that "
            "you ask about"
        )


@contextmanager
def _evaluating(network: nn.Module) -> Generator[None]:
    """Evaluation mode for the time being."""
    before = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training

"""Query, key and value to measure attention on, with a support of known size.

How many keys a query's support holds, and where they lie, decides what sparse attention costs, so
random numbers say little. Three kinds:

photo     every pixel's 7×7 neighbourhood of a photograph, through seeded random projections, one
          each for query, key and value, and PReLU: the embeddings of a block that hasn't learnt.
          The scores are scaled so that the mean support T is the one that was asked for.
network   what the attention of the shipped hspan-light gets on a photograph, at its own T.
gaussian  independent normal numbers, scaled alike: nothing is similar to anything.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from math import isqrt
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.errors import InputError, UsageError
from hspan.imaging import images_in, probe_image, read_image, to_uint8
from hspan.modules import HSPA
from hspan.ops import attention_support
from hspan.weights import load_model

Kind = Literal["photo", "network", "gaussian"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_PATCH = 7  # side of the neighbourhood that a photo's token sees
_REDUCTION = 2  # channels of value / channels of query and key, as in the paper
_SLOPE = 0.25  # PReLU's initial value
_FIT_QUERIES = 1024  # queries whose support is measured while the scale is sought
_CHECK_QUERIES = 2048  # others, whose mean is reported
_TOLERANCE = 0.01  # of the mean support, on the queries of the fit
_MOST = 0.05  # where patches that are all alike enter the support together, and it jumps
_MAX_STEPS = 60

BUNDLED = Path(str(files("hspan.evaluation.bench_attention"))) / "astronaut.webp"


@dataclass(frozen=True, kw_only=True)
class Features:
    """One input of the attention.

    Attributes:
        query: [1, N, C], float32.
        key: [1, N, C], float32.
        value: [1, N, D], float32.
        width: tokens per row of the image; None where tokens have no place in an image.
        scale: that query and key together were multiplied by.
        support: mean number of keys in a query's support.
        support_queries: how many queries that mean is over, drawn apart from those of the fit.
        source: what it was made from.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    width: int | None
    scale: float
    support: float
    support_queries: int
    source: str


def draw_features(
    kind: Kind,
    tokens: int,
    *,
    channels: int = 192,
    support: float = 32.0,
    image: Path | None = None,
    seed: int = 0,
) -> Features:
    """Make the input of an attention over ``tokens`` positions.

    Args:
        kind: "photo", "network" or "gaussian", see above.
        tokens: N; the photograph's part is as square as N allows.
        channels: D of the value, twice the C of query and key; "network" has its own.
        support: the mean T that "photo" and "gaussian" are scaled to.
        image: the photograph; None takes the first one of Urban100 in the folder HSPAN_DATA that
            is large enough, or the 256×256 one that comes with the package.
        seed: of the projections, the normal numbers and the sampled queries.

    Raises:
        InputError: no photograph is large enough, or no scale gives that support.
    """
    generator = torch.Generator().manual_seed(seed)
    if kind == "network":
        query, key, value, width, source = _from_network(tokens, image)
        scale = 1.0
    else:
        if kind == "photo":
            draw = _from_photo(tokens, channels, image, generator)
        else:
            draw = _from_normal(tokens, channels, generator)
        query, key, value, width, source = draw
        scale = fit_scale(query, key, support, generator)
        query, key = query * scale**0.5, key * scale**0.5
    sample = _sample(tokens, _CHECK_QUERIES, generator)
    return Features(
        query=query,
        key=key,
        value=value,
        width=width,
        scale=scale,
        support=_mean_support(query[:, sample], key),
        support_queries=len(sample),
        source=source,
    )


def fit_scale(query: Tensor, key: Tensor, support: float, generator: torch.Generator) -> float:
    """Find the factor of the scores at which the mean support is ``support``, by bisection.

    Args:
        query: [1, N, C].
        key: [1, N, C].
        support: at least 1, below N.
        generator: draws the queries whose support is measured.

    Raises:
        InputError: no factor gives that support, as for constant features.
    """
    sampled = query[:, _sample(query.shape[1], _FIT_QUERIES, generator)]
    spread = float((sampled[0, :64] @ key[0].T).std())
    low, high = -np.inf, np.inf  # of the factor's binary logarithm; the support falls as it grows
    power = -float(np.log2(spread)) if spread > 0 else 0.0
    found, nearest, least = np.nan, power, np.inf
    for _ in range(_MAX_STEPS):
        found = _mean_support(sampled * 2.0**power, key)
        error = abs(found / support - 1)
        if error < least:
            nearest, least = power, error
        if error <= _TOLERANCE:
            break
        if found > support:
            low = power
        else:
            high = power
        if np.isinf(low):
            power -= 1
        elif np.isinf(high):
            power += 1
        elif high - low < 1e-6:
            break
        else:
            power = (low + high) / 2
    if least <= _MOST:
        return 2.0**nearest
    raise InputError(
        f"no scale of these {query.shape[1]} tokens gives a mean support of {support:g} "
        f"(the last had {found:.1f})"
    )


def _mean_support(query: Tensor, key: Tensor) -> float:
    offsets, _, _ = attention_support(query, key)
    return int(offsets[0, -1]) / query.shape[1]


def _sample(tokens: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(tokens, generator=generator)[:count].sort().values


_Draw = tuple[Tensor, Tensor, Tensor, int | None, str]


def _from_photo(
    tokens: int, channels: int, image: Path | None, generator: torch.Generator
) -> _Draw:
    side = _side(tokens)
    pixels, source = _photograph(side, image)
    pixels = pixels - pixels.mean(dim=(2, 3), keepdim=True)
    padded = F.pad(pixels, [_PATCH // 2] * 4, mode="replicate")
    patches = F.unfold(padded, _PATCH).transpose(1, 2)[:, :tokens]  # [1, N, 3·7·7]
    project = _projector(patches, generator)
    narrow = channels // _REDUCTION
    return project(narrow), project(narrow), project(channels), side, source


def _projector(patches: Tensor, generator: torch.Generator) -> Callable[[int], Tensor]:
    inputs = patches.shape[2]

    def project(channels: int) -> Tensor:
        weight = torch.randn(inputs, channels, generator=generator) / inputs**0.5
        return F.prelu(patches @ weight, torch.tensor(_SLOPE))

    return project


def _from_normal(tokens: int, channels: int, generator: torch.Generator) -> _Draw:
    def normal(width: int) -> Tensor:
        return torch.randn(1, tokens, width, generator=generator)

    narrow = channels // _REDUCTION
    return normal(narrow), normal(narrow), normal(channels), None, f"normal, {narrow} channels"


class _Reached(Exception):  # noqa: N818 (nothing is wrong: the network needs no further computing)
    """The features have been seen."""


def _from_network(tokens: int, image: Path | None) -> _Draw:
    network = load_model("hspan-light", scale=2, device="cpu")
    block = next(m for m in network.modules() if isinstance(m, HSPA))
    side = _side(tokens)
    pixels, source = _photograph(side * block.patch, image)
    found: list[tuple[Tensor, Tensor, Tensor]] = []

    def look(module: nn.Module, inputs: tuple[Tensor]) -> None:
        found.append(block.tokens(inputs[0]))
        raise _Reached

    handle = block.register_forward_pre_hook(look)
    try:
        with torch.no_grad():
            network(pixels)
    except _Reached:
        pass
    finally:
        handle.remove()
    query, key, value = (part[:, :tokens].contiguous() for part in found[0])
    return query, key, value, side, f"hspan-light ×2 on {source}"


def _side(tokens: int) -> int:
    """Tokens per row of the smallest square that holds so many."""
    return isqrt(tokens - 1) + 1


def _photograph(side: int, image: Path | None) -> tuple[Tensor, str]:
    """The middle of the first photograph that is large enough: [1, 3, side, side] in [0, 1]."""
    paths = [image] if image else [*_urban100(), BUNDLED]
    for path in paths:
        info = probe_image(path)
        if min(info.width, info.height) < side:
            continue
        pixels = to_uint8(read_image(path).pixels)
        top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
        crop = pixels[top : top + side, left : left + side]
        rgb = np.broadcast_to(crop, (side, side, 3)).astype(np.float32) / 255
        name = "the bundled photograph" if path == BUNDLED else path.name
        tensor = torch.from_numpy(rgb).permute(2, 0, 1).unsqueeze(0)
        return tensor, f"{name}, middle {side}×{side}"
    where = str(image) if image else "no photograph at hand"
    raise InputError(
        f"{where} {'is smaller than' if image else 'has'} {side}×{side} pixels; "
        "name a larger one, or the folder of the benchmark images in HSPAN_DATA"
    )


def _urban100() -> list[Path]:
    root = os.environ.get("HSPAN_DATA")
    folder = Path(root) / "benchmarks" / "Urban100" / "HR" if root else None
    return images_in(folder) if folder and folder.is_dir() else []


def check_image(image: Path | None) -> None:
    """Raise InputError unless the photograph can be read."""
    if image is not None:
        probe_image(image)


def check_features(kind: str, tokens: int, channels: int, support: float) -> None:
    """Raise UsageError for settings that no features can have."""
    if kind not in KINDS:
        raise UsageError(f"features are one of {', '.join(KINDS)}, got {kind!r}")
    if tokens < 2:
        raise UsageError(f"the number of tokens must be at least 2, got {tokens}")
    if channels < _REDUCTION or channels % _REDUCTION:
        raise UsageError(f"channels must be a positive even number, got {channels}")
    if kind != "network" and not 1 <= support < tokens:
        raise UsageError(
            f"the mean support must lie in [1, {tokens}) for {tokens} tokens, got {support:g}"
        )

"""Which bounds would spare the kernel some products? Counted, not timed.

    python benchmarks/attention_bounds.py [--tokens 2304 9216 36864]

A block of sixteen keys can be skipped for a tile of sixteen queries when a bound shows that none of
its scores exceeds the tile's kappas. Four bounds, each with the share of blocks that it leaves:

maximum   the block's largest score itself: what the kernel's screen knows, after all products;
prefix    31 principal components of the keys, and the product of what is left of both norms as the
          thirty-second: a third of the products at 96 channels;
ball      the score of the block's centroid plus |query| times the block's radius: a sixteenth of
          the products;
int8      the largest score of queries and keys rounded to whole numbers, each row in its own unit,
          plus what rounding can have taken: all products, in half of bf16's time.

Tokens are taken in squares of 4 by 4 pixels, as the kernel does. Saves benchmarks/results/
attention_bounds.json, which docs/attention.md quotes.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from hspan import soft_threshold
from hspan.evaluation.bench_attention import draw_features

RESULTS = Path(__file__).parent / "results/attention_bounds.json"
LANES = 16
PREFIX = 31
SAMPLE = 64  # tiles


def in_squares(tokens: Tensor, width: int, side: int = 4) -> Tensor:
    """Order [N, C] tokens of an image by squares of side × side; the rest at the edges is cut."""
    rows = len(tokens) // width // side * side
    columns = width // side * side
    image = tokens[: rows * width].view(rows, width, -1)[:, :columns]
    squares = image.unflatten(0, (-1, side)).unflatten(2, (-1, side)).transpose(1, 2)
    return squares.flatten(0, 3)


def to_int8(rows: Tensor) -> Tensor:
    """Round rows to 255 steps of their own, symmetric around zero."""
    unit = rows.abs().amax(1, keepdim=True).clamp(min=1e-30) / 127
    return (rows / unit).round() * unit


def count(query: Tensor, key: Tensor) -> dict[str, float]:
    """Shares of blocks left by each bound, over sampled tiles; [N, C] each, in order."""
    query, key = query.double(), key.double()
    key = key - key.mean(0)
    values, vectors = torch.linalg.eigh(key.T @ key)
    basis = vectors[:, -PREFIX:]
    query_rest = (query - query @ basis @ basis.T).norm(dim=1)
    key_rest = (key - key @ basis @ basis.T).norm(dim=1)
    blocks = key.view(-1, LANES, key.shape[1])
    centroids = blocks.mean(1)
    radii = (blocks - centroids[:, None]).norm(dim=2).amax(1)

    whole_query, whole_key = to_int8(query), to_int8(key)
    query_error, key_error = (query - whole_query).norm(dim=1), (key - whole_key).norm(dim=1)
    query_norm, whole_norm = query.norm(dim=1), whole_key.norm(dim=1)

    drawn = torch.randperm(len(query) // LANES, generator=torch.Generator().manual_seed(0))
    left = {"maximum": 0.0, "prefix": 0.0, "ball": 0.0, "int8": 0.0, "support": 0.0}
    for tile in drawn[:SAMPLE]:
        own = slice(int(tile) * LANES, int(tile) * LANES + LANES)
        scores = query[own] @ key.T
        weights = soft_threshold(scores)
        kappa = scores.amax(1, keepdim=True) - weights.amax(1, keepdim=True)
        prefix = query[own] @ basis @ (key @ basis).T + query_rest[own, None] * key_rest
        ball = query[own] @ centroids.T + query_norm[own, None] * radii
        error = query_error[own, None] * whole_norm + query_norm[own, None] * key_error
        int8 = whole_query[own] @ whole_key.T + error
        for name, bound in (
            ("maximum", scores.view(LANES, -1, LANES).amax(2)),
            ("prefix", prefix.view(LANES, -1, LANES).amax(2)),
            ("ball", ball),
            ("int8", int8.view(LANES, -1, LANES).amax(2)),
        ):
            left[name] += float((bound > kappa).any(0).double().mean()) / min(SAMPLE, len(drawn))
        left["support"] += float((weights > 0).sum(1).double().mean()) / min(SAMPLE, len(drawn))
    left["residual_energy"] = 1 - float(values[-PREFIX:].sum() / values.sum())
    return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[2304, 9216, 36864])
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    for kind in ("photo", "network"):
        for tokens in arguments.tokens:
            drawn = draw_features(kind, tokens)
            width = drawn.width or 1
            shares = count(in_squares(drawn.query[0], width), in_squares(drawn.key[0], width))
            rows.append({"features": kind, "tokens": tokens, "channels": drawn.key.shape[2]})
            rows[-1] |= {name: round(share, 4) for name, share in shares.items()}
            rows[-1]["source"] = drawn.source
            print(rows[-1], flush=True)
    RESULTS.write_text(json.dumps({"blocks_left": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

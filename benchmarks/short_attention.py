"""Attention over training patches in bf16: products of whole matrices beside the screened way.

    python benchmarks/short_attention.py [--threads 1] [--out FILE.json]

The same call on AMX, forward with what the backward pass needs, and backward, once through
native/short.h and once as longer sequences are computed; they take turns in one process, which
keeps freed memory as training does. Features are drawn from a normal distribution, queries such
that a support holds about the named share of the keys. Medians, and medians of the ratios of the
same turn.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hspan import soft_threshold
from hspan._allocator import keep_memory
from hspan.evaluation.bench_attention._machine import describe_run
from hspan.ops import _library, _short

# Batch, tokens, C and D: patches of 48×48 and larger, as 4×4 positions of hspan-light's features
# or as single positions.
SHAPES = (
    (16, 144, 480, 960),
    (4, 576, 480, 960),
    (16, 576, 30, 60),
    (4, 1024, 480, 960),
    (16, 1024, 30, 60),
)
SHARES = (0.1, 0.5)  # of the keys


def draw(shape: tuple[int, int, int, int], share: float) -> tuple[Tensor, Tensor, Tensor]:
    batch, tokens, channels, depth = shape
    torch.manual_seed(0)
    query, key = (torch.randn(batch, tokens, channels) for _ in range(2))
    value = torch.randn(batch, tokens, depth)
    scores = query[:1].double() @ key[:1].double().mT
    low, high = 1e-8, 1e2  # the larger the scores, the smaller their support
    for _ in range(40):
        middle = (low * high) ** 0.5
        kept = (soft_threshold(scores * middle) > 0).double().mean()
        low, high = (middle, high) if kept > share else (low, middle)
    return (query * low).bfloat16(), key.bfloat16(), value.bfloat16()


def run(tensors: tuple[Tensor, Tensor, Tensor], grad: Tensor, most: int) -> tuple[float, float]:
    """Seconds forward and backward."""
    _short.MOST = most
    start = time.perf_counter()
    _, limits, support = torch.ops.hspan.attention.default(*tensors, None, 0, True, "native")
    between = time.perf_counter()
    torch.ops.hspan.attention_backward.default(grad, *tensors, limits, support, None, 0, "native")
    return between - start, time.perf_counter() - between


def measure(shape: tuple[int, int, int, int], share: float, turns: int) -> dict[str, float]:
    tensors = draw(shape, share)
    grad = torch.randn_like(tensors[2])
    ways = {"": shape[1], "_screened": 0}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(turns + 2):
        for name, most in ways.items():
            passed = run(tensors, grad, most)
            if turn >= 2:
                times[name].append(passed)
    row: dict[str, float] = {}
    for i, direction in enumerate(("forward", "backward")):
        for name, found in times.items():
            row[f"{direction}{name}_ms"] = 1e3 * statistics.median(pair[i] for pair in found)
        pairs = zip(times["_screened"], times[""], strict=True)
        row[f"{direction}_ratio"] = statistics.median(a[i] / b[i] for a, b in pairs)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if "amx" not in _library.instruction_sets():
        parser.exit(1, "this machine has no AMX, or hspan was installed without its kernels\n")
    keep_memory()
    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {
        **describe_run(),
        "turns": arguments.turns,
        "results": [],
    }
    for shape in SHAPES:
        for share in SHARES:
            row = measure(shape, share, arguments.turns)
            result["results"].append({"shape": list(shape), "share": share, **row})
            print(
                f"{shape}, {share:.0%} of the keys: forward {row['forward_ms']:.2f} ms, screened "
                f"{row['forward_ratio']:.2f} times; backward {row['backward_ms']:.2f} ms, "
                f"screened {row['backward_ratio']:.2f} times",
                flush=True,
            )
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

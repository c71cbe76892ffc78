"""One attention block, forward and backward, as a network that has begun to train needs it.

    python benchmarks/training_block.py IMAGE... [--threads 1] [--out FILE.json]

hspan-light with one block over single positions, as in the paper, trains from scratch in bf16 on
batches of 16 patches of 48×48 (2,304 tokens each) cut out of the images. After some steps, the
queries, keys and values of a batch are taken out of it. On them, soft thresholding and torch's
fused softmax take turns in one process, which keeps freed memory as training does. Medians in
milliseconds, and T, the number of keys that a query keeps on average.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from training_attention import DESIGNS, PATCH, Patches, Step, kept_keys

from hspan import hspa_attention, softmax_attention
from hspan._allocator import keep_memory
from hspan.evaluation.bench_attention._machine import describe_run
from hspan.ops import _library

STEPS = (5, 20, 60)  # after which features are taken


def run(attend: Callable[..., Tensor], tensors: tuple[Tensor, ...], grad: Tensor) -> list[float]:
    """Seconds forward and backward."""
    inputs = [t.clone().requires_grad_() for t in tensors]
    start = time.perf_counter()
    out = attend(*inputs)
    between = time.perf_counter()
    out.backward(grad)
    return [between - start, time.perf_counter() - between]


def measure(tensors: tuple[Tensor, ...], turns: int) -> dict[str, float]:
    ways: dict[str, Callable[..., Tensor]] = {
        "": lambda *qkv: hspa_attention(*qkv, width=PATCH),
        "softmax_": softmax_attention,
    }
    grad = torch.randn_like(tensors[2])
    times: dict[str, list[list[float]]] = {name: [] for name in ways}
    for turn in range(turns + 2):
        for name, attend in ways.items():
            passed = run(attend, tensors, grad)
            if turn >= 2:
                times[name].append([*passed, sum(passed)])
    row = {
        f"{name}{part}_ms": 1e3 * statistics.median(passed[i] for passed in found)
        for name, found in times.items()
        for i, part in enumerate(("forward", "backward", "both"))
    }
    pairs = zip(times["softmax_"], times[""], strict=True)
    row["ratio"] = statistics.median(a[2] / b[2] for a, b in pairs)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_memory()
    result: dict[str, Any] = {
        **describe_run(),
        "instruction_sets": _library.instruction_sets(),
        "batch": arguments.batch,
        "turns": arguments.turns,
        "results": [],
    }
    data, step = Patches(arguments.images, arguments.batch), Step(DESIGNS["one, patch 1"])
    for trained in range(max(STEPS) + 1):
        lr, hr = data.draw()
        if trained in STEPS:
            tensors = tuple(tensor.bfloat16() for tensor in step.tokens(lr)[0])
            row = {
                "steps": trained,
                "channels": [tensors[0].shape[-1], tensors[2].shape[-1]],
                "kept_keys": kept_keys(*tensors[:2]),
                **measure(tensors, arguments.turns),
            }
            result["results"].append(row)
            print(
                f"after {trained} steps, T = {row['kept_keys']:.0f}: {row['forward_ms']:.1f} ms "
                f"forward, {row['backward_ms']:.1f} backward, {row['both_ms']:.1f} both; softmax "
                f"takes {row['ratio']:.2f} times as long",
                flush=True,
            )
        step.run(lr, hr)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

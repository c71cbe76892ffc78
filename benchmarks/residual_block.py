"""Residual blocks in bf16: hspan's kernel beside two convolutions by oneDNN.

    python benchmarks/residual_block.py [--threads 1] [--out FILE.json]

Both compute x + conv2(relu(conv1(x))), 3×3, forward with what the backward pass needs, and all
gradients; they take turns in one process, which keeps freed memory as training does. Medians, and
medians of the ratios of the same turn. A batch of training patches, and an image in one piece.
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

from hspan._allocator import keep_memory
from hspan.evaluation.bench_attention._machine import describe_run
from hspan.ops import residual

SHAPES = {"patches": (16, 48, 48), "image": (1, 480, 640)}
WIDTHS = (16, 32, 48, 60, 64, 96, 128, 192)


def draw(channels: int, batch: int, height: int, width: int) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    x = torch.randn(batch, channels, height, width, dtype=torch.bfloat16)
    weights = [torch.randn(channels, channels, 3, 3) / (9 * channels) ** 0.5 for _ in range(2)]
    bias = torch.zeros(channels)
    return x.contiguous(memory_format=torch.channels_last), weights[0], bias, weights[1], bias


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(channels: int, shape: tuple[int, int, int], turns: int) -> dict[str, float]:
    x, weight1, bias1, weight2, bias2 = draw(channels, *shape)
    operators = torch.ops.hspan
    _, inner = operators.residual_block(x, weight1, bias1, weight2, bias2, True)
    ways = {
        "forward": lambda: operators.residual_block(x, weight1, bias1, weight2, bias2, True),
        "forward_onednn": lambda: residual._forward_in_steps(x, weight1, bias1, weight2, bias2),
        "backward": lambda: operators.residual_block_backward(x, x, inner, weight1, weight2),
        "backward_onednn": lambda: residual._backward_in_steps(x, x, inner, weight1, weight2),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 2):
        for name, way in ways.items():
            passed = seconds(way)
            if turn >= 2:
                times[name].append(passed)
    row = {f"{name}_ms": 1e3 * statistics.median(found) for name, found in times.items()}
    for name in ("forward", "backward"):
        pairs = zip(times[f"{name}_onednn"], times[name], strict=True)
        row[f"{name}_ratio"] = statistics.median(a / b for a, b in pairs)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", nargs="*", type=int, default=WIDTHS)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if not residual.HAS_KERNEL:
        parser.exit(1, "no kernel: that takes AMX or AVX-512 with bf16, and a compiled hspan\n")
    keep_memory()
    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {
        **describe_run(),
        "turns": arguments.turns,
        "results": [],
    }
    for channels in arguments.widths:
        for name, shape in SHAPES.items():
            row = measure(channels, shape, arguments.turns)
            result["results"].append({"channels": channels, "shape": list(shape), **row})
            print(
                f"{channels} channels, {name}: forward {row['forward_ms']:.2f} ms, oneDNN "
                f"{row['forward_ratio']:.2f} times; backward {row['backward_ms']:.2f} ms, oneDNN "
                f"{row['backward_ratio']:.2f} times",
                flush=True,
            )
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

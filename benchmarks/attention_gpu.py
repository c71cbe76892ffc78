"""The Triton kernels on a GPU, in one call: are they right, then how fast are they.

    PYTHONPATH=src python benchmarks/attention_gpu.py --out DIR

Needs torch and Triton only. Every hard case is compared with float64 first
(`attention_gpu_checks.py`), and nothing is timed if one fails. Then forward, and forward with
backward, against

    released     the authors' algorithm: dense scores, top-k and sums for kappa, dense product
    flash        softmax by scaled_dot_product_attention's FlashAttention; query and key are padded
                 with zeros to the channels of value, which that kernel wants equal
    efficient    softmax by its memory-efficient kernel, which takes the channels as they are
    adasplash    where it can be imported: its α = 2 is the same function; channels are padded to a
                 power of two and query is scaled so that its 1/√d cancels; 10 iterations

on image-like features (a synthetic picture, or one of --images DIR, which needs Pillow) and on
Gaussian numbers, scaled to one mean support. Methods take turns; CUDA events, medians, and ratios
of medians. DIR/attention_gpu.json gets everything, with device, versions and commit.

Without a GPU the checks alone run in Triton's interpreter:

    TRITON_INTERPRET=1 PYTHONPATH=src python benchmarks/attention_gpu.py --check-only --device cpu
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from attention_gpu_checks import DTYPES, check
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from hspan.ops import hspa_attention, soft_threshold

ROOT = Path(__file__).parents[1]
TOKENS = [2304, 4096, 9216, 16384, 36864, 65536]
CHANNELS = {192: (96, 192), 64: (32, 64)}  # of query and key, of value
PATCH = 7  # side of the neighbourhood that a token is made from
SAMPLED = 512  # queries whose support is counted
Tensors = tuple[Tensor, Tensor, Tensor]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


# What is compared


def released(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return _ReleasedThreshold.apply(query @ key.transpose(1, 2)) @ value


class _ReleasedThreshold(torch.autograd.Function):
    """Eqs. (11), (12) and (19) on whole matrices, as the released program computes them."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        shifted = scores - scores.amax(-1, keepdim=True)
        weights = shifted - released_kappa(shifted.flatten(0, 1), 128).view_as(shifted[..., :1])
        weights = weights.clamp_(min=0)
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (weights,) = ctx.saved_tensors
        outside = weights == 0
        r = grad_outputs[0].masked_fill(outside, 0)
        mean = r.sum(-1, keepdim=True) / (~outside).sum(-1, keepdim=True)
        return (r - mean).masked_fill_(outside, 0)


def released_kappa(shifted: Tensor, topk: int) -> Tensor:
    """Kappa [R, 1] from the topk largest scores; rows that need more take twice as many."""
    topk = min(topk, shifted.shape[1])
    largest = shifted.topk(topk, dim=1).values
    sums = largest.cumsum(1) - 1
    ranks = torch.arange(1, topk + 1, device=shifted.device)
    size = (ranks * largest > sums).sum(1, keepdim=True)
    kappa = sums.gather(1, size - 1) / size
    again = (size == topk).squeeze(1)
    if topk < shifted.shape[1] and again.any():
        kappa[again] = released_kappa(shifted[again], 2 * topk)
    return kappa


def as_they_are(tensors: Tensors) -> Tensors:
    return tensors


def padded(width: int, tensors: Tensors) -> Tensors:
    """One head, [B, 1, N, width], which leaves the products unchanged."""
    query, key, value = (
        F.pad(t, (0, width - t.shape[2])).unsqueeze(1).contiguous() for t in tensors
    )
    return query, key, value


def for_flash(tensors: Tensors) -> Tensors:
    return padded(tensors[2].shape[2], tensors)


def for_adasplash(tensors: Tensors) -> Tensors:
    width = 1 << (tensors[2].shape[2] - 1).bit_length()
    query, key, value = tensors
    return padded(width, (query * math.sqrt(width), key, value))


def softmax(backend: SDPBackend) -> Attend:
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(query, key, value, scale=1.0)

    return attend


def adasplash(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    from adasplash import adasplash_v1

    tokens = value.shape[2]
    varlen = None
    if tokens & (tokens - 1):  # a length that isn't a power of two must be told
        varlen = torch.full((len(value),), tokens, dtype=torch.int32, device=value.device)
    return adasplash_v1(query, key, value, alpha=2.0, is_causal=False, varlen=varlen)


def ours(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return hspa_attention(query, key, value, width=math.isqrt(query.shape[1]), backend="triton")


# By the dtype that each is meant for: how inputs are prepared, untimed, and what is timed.
METHODS: dict[str, dict[str, tuple[Callable[[Tensors], Tensors], Attend]]] = {
    "fp32": {"ours": (as_they_are, ours), "released": (as_they_are, released)},
    "bf16": {
        "ours": (as_they_are, ours),
        "flash": (for_flash, softmax(SDPBackend.FLASH_ATTENTION)),
        "efficient": (
            lambda tensors: tuple(t.unsqueeze(1) for t in tensors),
            softmax(SDPBackend.EFFICIENT_ATTENTION),
        ),
        "adasplash": (for_adasplash, adasplash),
    },
}


# Data


def picture(side: int, images: Path | None, generator: torch.Generator) -> Tensor:
    """[1, 3, side, side] in [0, 1]: part of a photograph, or noise of all scales with edges."""
    if images is not None:
        import numpy as np
        from PIL import Image

        for path in sorted(p for p in images.rglob("*") if p.suffix.lower() in (".png", ".jpg")):
            with Image.open(path) as image:
                if min(image.size) >= side:
                    pixels = torch.from_numpy(np.array(image.convert("RGB")))
                    return (pixels[:side, :side].permute(2, 0, 1) / 255)[None]
        raise SystemExit(f"no image in {images} is {side}×{side} or larger")
    field = torch.zeros(1, 3, side, side)
    for octave in range(2, side.bit_length()):
        grid = torch.randn(1, 3, 2**octave, 2**octave, generator=generator)
        field += F.interpolate(grid, (side, side), mode="bicubic") * 2.0 ** (2 - octave)
    return (torch.sin(3 * field) + torch.sign(field)) / 4 + 0.5


def features(kind: str, n: int, channels: tuple[int, int], args: argparse.Namespace) -> Tensors:
    """Query and key [1, N, C], value [1, N, D] in float32, of the mean support that was asked."""
    generator = torch.Generator().manual_seed(1)
    widths = (channels[0], channels[0], channels[1])
    if kind == "gaussian":
        drawn = [torch.randn(1, n, width, generator=generator) for width in widths]
    else:
        pixels = F.pad(picture(math.isqrt(n), args.images, generator), (PATCH // 2,) * 4, "reflect")
        patches = F.unfold(pixels, PATCH).transpose(1, 2)  # [1, N, 3·7·7]
        scale = patches.shape[2] ** -0.5
        drawn = [
            F.leaky_relu(patches @ torch.randn(patches.shape[2], w, generator=generator), 0.25)
            * scale
            for w in widths
        ]
    query, key, value = (t.to(args.device) for t in drawn)
    key = key - key.mean(1, keepdim=True)  # a row's common shift is no similarity
    low, high = -12.0, 12.0
    for _ in range(24):  # the support falls as the scores spread
        power = (low + high) / 2
        if mean_support(query * 2**power, key) > args.support:
            low = power
        else:
            high = power
    return query * 2**high, key, value


def mean_support(query: Tensor, key: Tensor) -> float:
    rows = query[0, :: max(1, query.shape[1] // SAMPLED)].float()
    return float((soft_threshold(rows @ key[0].float().T) > 0).sum(1).float().mean())


# Timing


def run_of(attend: Attend, tensors: Tensors, backward: bool) -> Callable[[], None]:
    leaves = [t.detach().requires_grad_(backward) for t in tensors]
    grad = torch.randn_like(tensors[2])

    def run() -> None:
        out = attend(*leaves)
        if backward:
            torch.autograd.grad(out, leaves, grad)

    return run


def elapsed(run: Callable[[], None]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def compare(runs: dict[str, Callable[[], None]], seconds: float) -> dict[str, dict[str, Any]]:
    """Median milliseconds and peak extra memory of each; a method that can't run says why."""
    results: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        try:
            run()  # compiles
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            run()
            torch.cuda.synchronize()
        except (RuntimeError, ImportError, AssertionError, ValueError) as error:
            if name == "ours":
                raise
            why = (str(error).splitlines() or [""])[0]
            results[name] = {"cannot": f"{type(error).__name__}: {why}"}
            torch.cuda.empty_cache()
            continue
        peak = (torch.cuda.max_memory_allocated() - before) / 2**20
        results[name] = {"peak_mib": round(peak, 1), "ms": []}
    timed = {name: run for name, run in runs.items() if "ms" in results[name]}
    until = time.monotonic() + seconds
    rounds = 0
    while rounds < 5 or (rounds < 50 and time.monotonic() < until):
        for name, run in timed.items():
            results[name]["ms"].append(elapsed(run))
        rounds += 1
    for name in timed:
        times = sorted(results[name].pop("ms"))
        results[name] |= {
            "median_ms": statistics.median(times),
            "quartiles_ms": [times[rounds // 4], times[(3 * rounds) // 4]],
            "rounds": rounds,
        }
    for name in timed:
        results[name]["times_ours"] = results[name]["median_ms"] / results["ours"]["median_ms"]
    return results


def screening(tensors: Tensors) -> dict[str, float]:
    """What screening leaves to do: hit tiles, candidates of a query, query tiles that overflow."""
    from hspan.ops import _triton, _triton_shapes, _triton_solver

    query, key, value = (_triton._operand(t) for t in tensors)
    tiling = _triton_shapes.tiling_of(query, key, value, None)
    order = _triton_shapes.block_order(query.shape[1], math.isqrt(query.shape[1]), query.device)
    query, key = _triton._take(query, order)[:, :4096], _triton._take(key, order)
    limits = torch.empty(1, query.shape[1], 2, device=query.device)
    _, found = _triton_solver.collect(tiling, query, key, limits)
    return {
        "hit_tiles": float(found.visits.float().mean()) / tiling.tiles,
        "candidates": float(found.sizes.float().mean()),
        "overflowing_query_tiles": float(found.flags.float().mean()),
    }


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = []
    parts = len(args.tokens) * len(args.channels) * len(args.features) * len(DTYPES) * 2
    for total in args.channels:
        for n in args.tokens:
            for kind in args.features:
                drawn = features(kind, n, CHANNELS[total], args)
                for name, dtype in DTYPES.items():
                    tensors: Tensors = tuple(t.to(dtype) for t in drawn)  # type: ignore[assignment]
                    cell = {
                        "channels": total,
                        "tokens": n,
                        "features": kind,
                        "dtype": name,
                        "support": mean_support(*tensors[:2]),
                        "screening": screening(tensors),
                    }
                    for direction in ("forward", "forward+backward"):
                        runs = {
                            method: run_of(attend, prepare(tensors), direction != "forward")
                            for method, (prepare, attend) in METHODS[name].items()
                        }
                        results = compare(runs, args.seconds / parts)
                        cells.append({**cell, "direction": direction, "results": results})
                        show(cells[-1])
    return cells


def show(cell: dict[str, Any]) -> None:
    columns = [
        f"{name} {r['median_ms']:.3f} ms ({r['times_ours']:.2f}×, {r['peak_mib']:.0f} MiB)"
        if "median_ms" in r
        else f"{name}: {r['cannot']}"
        for name, r in cell["results"].items()
    ]
    head = "{channels} channels, N = {tokens}, {features}, {dtype}, {direction}, T = {support:.0f}"
    print(f"{head.format(**cell)}: {'; '.join(columns)}", flush=True)


def environment(device: str) -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    versions = {}
    for name in ("torch", "triton", "adasplash"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    where: dict[str, Any] = {"commit": commit, "versions": versions, "device": device}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        where |= {"name": properties.name, "memory_gib": properties.total_memory / 2**30}
        where |= {"multiprocessors": properties.multi_processor_count, "cuda": torch.version.cuda}
    return where


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of attention_gpu.json")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--check-only", action="store_true")
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS, help="perfect squares")
    parser.add_argument("--channels", type=int, nargs="+", choices=CHANNELS, default=[192, 64])
    parser.add_argument("--features", nargs="+", default=["image", "gaussian"])
    parser.add_argument("--images", type=Path, help="folder of photographs")
    parser.add_argument("--support", type=float, default=32.0, help="mean keys in a support")
    parser.add_argument("--seconds", type=float, default=240.0, help="for all timings together")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device here; --check-only --device cpu checks in the interpreter.")
        return 2
    if args.device == "cpu" and not args.check_only:
        print("Timings need a CUDA device: the interpreter's say nothing.")
        return 2
    torch.backends.cuda.matmul.allow_tf32 = False
    tokens = 4480
    if args.device == "cpu":
        from hspan.ops import _triton_shapes

        tokens, _triton_shapes.DIRECT_KEYS = 48, 24  # so that so few are screened too
    report: dict[str, Any] = {"environment": environment(args.device)}
    report["checks"] = check(args.device, tokens)
    failed = not all(entry["passed"] for entry in report["checks"])
    if not failed and not args.check_only:
        report["timings"] = measure(args)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "attention_gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    if failed:
        print("A check failed, so nothing was timed.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""The attention's hard cases, timed beside softmax: what isn't sparse, or can't be screened.

    python benchmarks/attention_hard.py [--tokens 4096] [--threads 1] [--only NAME...]

C = 96, D = 192. Both sides alternate in one process; ratios are the attention's time over that of
softmax (torch's scaled_dot_product_attention on the same tensors), so that 1 is as fast and less is
faster. Saves benchmarks/results/attention_hard.json, which docs/attention.md quotes.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from hspan.evaluation.bench_attention._timing import alternate
from hspan.ops import attention_support, hspa_attention, softmax_attention

RESULTS = Path(__file__).parent / "results/attention_hard.json"
CHANNELS, DEPTH = 96, 192
REPETITIONS = 5
SAMPLED = 64  # queries whose support is counted
TRUNCATED = (4, 32, 100, 400, 1000, 4000)

Case = tuple[Tensor, Tensor, Tensor]


def drawn(queries: int, keys: int, logits: float = 1.0, off: float = 0.0) -> Case:
    """Normal numbers whose scores have that standard deviation, keys off centre or not."""
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(1, keys, DEPTH, generator=generator)
    query = torch.randn(1, queries, CHANNELS, generator=generator)
    key = torch.randn(1, keys, CHANNELS, generator=generator)
    base = torch.randn(1, 1, CHANNELS, generator=generator)
    query = query * (logits / CHANNELS**0.5)
    if off:
        query, key = query + off * base, off * base + logits * key
    return query, key, value


def with_ties(tokens: int) -> Case:
    query, key, value = drawn(tokens, tokens)
    key[:, tokens // 4 :] = key[:, :1]
    query[:, ::2] = 3 * key[:, :1] / key[:, :1].norm()
    return query, key, value


def with_outlier(tokens: int) -> Case:
    query, key, value = drawn(tokens, tokens)
    key[0, 7] *= 1e4
    return query, key, value


def with_sky(tokens: int) -> Case:
    """Half of the keys are nearly equal, and most similar to every third query."""
    query, key, value = drawn(tokens, tokens, 4.0)
    blue = 16 * key[:, :1] / key[:, :1].norm()
    key[:, : tokens // 2] = blue + 0.005 * key[:, : tokens // 2]
    query[:, ::3] = blue + 1e-3 * query[:, ::3]
    return query, key, value


def cases(n: int) -> dict[str, tuple[Callable[[], Case], tuple[int, ...]]]:
    """What to time, and the numbers of keys to truncate it to."""
    return {
        "normal, logits 1": (lambda: drawn(n, n), ()),
        "normal, logits 1e-1": (lambda: drawn(n, n, 1e-1), ()),
        "normal, logits 1e-2": (lambda: drawn(n, n, 1e-2), TRUNCATED),
        "normal, logits 1e-3": (lambda: drawn(n, n, 1e-3), TRUNCATED),
        "normal, logits 1e-4": (lambda: drawn(n, n, 1e-4), TRUNCATED),
        "normal, logits 1e-6 (closed form)": (lambda: drawn(n, n, 1e-6), ()),
        "normal, logits 1e4": (lambda: drawn(n, n, 1e4), ()),
        "off centre, logits 1e-3": (lambda: drawn(n, n, 1e-3, 1.0), TRUNCATED),
        "off centre, logits 1e-4": (lambda: drawn(n, n, 1e-4, 1.0), TRUNCATED),
        "ties": (lambda: with_ties(n), (100,)),
        "outlier key": (lambda: with_outlier(n), (100,)),
        "sky": (lambda: with_sky(n), (100,)),
        "zero queries": (lambda: drawn(n, n, 0.0), (100,)),
        "half as many queries, one more key": (lambda: drawn(n // 2, n + 1), ()),
        "float64": (lambda: tuple(t.double() for t in drawn(n, n, 0.1)), ()),
        "not contiguous": (
            lambda: tuple(t.mT.contiguous().mT for t in drawn(n, n, 0.1)),
            (),
        ),
    }


def measure(case: Case, topk: int | None) -> dict[str, float]:
    def ours() -> Tensor:
        return hspa_attention(*case, topk=topk)

    def softmax() -> Tensor:
        return softmax_attention(*case)

    runs = {"hspan": ours, "softmax": softmax}
    for run in runs.values():
        run()
    times = alternate(runs, dict.fromkeys(runs, REPETITIONS))
    sample = case[0][:, :SAMPLED].contiguous(), case[1].contiguous()
    offsets, _, _ = attention_support(*sample, topk=topk)
    return {
        "support": int(offsets[0, -1]) / SAMPLED,
        "ms": round(1e3 * times["hspan"].median, 2),
        "softmax_ms": round(1e3 * times["softmax"].median, 2),
        "ratio": round(times["hspan"].median / times["softmax"].median, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], help="cases whose name begins so")
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = []
    for name, (make, truncated) in cases(arguments.tokens).items():
        if arguments.only and not name.startswith(tuple(arguments.only)):
            continue
        case = make()
        for topk in (None, *truncated):
            result = {"case": name, "topk": topk, **measure(case, topk)}
            results.append(result)
            print(
                f"{name}, {'all' if topk is None else f'topk={topk}'}: T = {result['support']:.0f},"
                f" {result['ms']} ms, {result['ratio']:.2f} of softmax",
                flush=True,
            )
    report = {
        "tokens": arguments.tokens,
        "channels": CHANNELS,
        "depth": DEPTH,
        "threads": arguments.threads,
        "cases": results,
    }
    arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

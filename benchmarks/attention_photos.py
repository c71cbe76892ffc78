"""The attention on photographs of all kinds: how much its time depends on the picture.

    python benchmarks/attention_photos.py [--photographs 10] [--tokens 2304 16384] [--backward]

A sky keeps thousands of nearly equal keys in play, a facade a few dozen, so one photograph says
little about the next. Takes the middle of so many images of Urban100, evenly spread over those
that are large enough, beside the released program, softmax, and the product with its scan, all of
them alternating per photograph. Prints the median over photographs, and the range; saves
benchmarks/results/attention_photos.json, which docs/attention.md quotes.
"""

import argparse
import os
import statistics
import sys
from dataclasses import replace
from math import isqrt
from pathlib import Path

import torch

from hspan.evaluation.bench_attention import AttentionReport, Settings, bench_attention
from hspan.imaging import images_in, probe_image

ROOT = Path(__file__).parents[1]
COMPARED = ("released", "sdpa-fp32", "sdpa-bf16", "product-bf16")


def photographs(folder: Path, count: int, side: int) -> list[Path]:
    """So many images of a folder, of those with room for a square of that side."""
    large = [
        p for p in images_in(folder) if min((info := probe_image(p)).width, info.height) >= side
    ]
    return [large[i * len(large) // count] for i in range(min(count, len(large)))]


def summary(report: AttentionReport, tokens: int, direction: str) -> list[str]:
    """A line for our times, and one for every method's ratio over them."""
    cases = [c for c in report.cases if (c.tokens, c.direction) == (tokens, direction)]
    lines: list[str] = []
    for method in ("ours", *COMPARED):
        results = [r for c in cases if (r := c.result(method)) and r.milliseconds]
        if not results:
            continue
        ours = method == "ours"
        spread = _spread([(r.milliseconds if ours else r.ratio) or 0 for r in results])
        title = f"N = {tokens:,}, {direction}, {results[0].title}"
        lines.append(f"{title}: {spread} {'ms' if ours else 'times ours'}")
    return lines


def _spread(numbers: list[float]) -> str:
    return f"{statistics.median(numbers):.3g} ({min(numbers):.3g} to {max(numbers):.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=int, default=10)
    parser.add_argument("--tokens", type=int, nargs="+", default=(2304, 16384, 65536))
    parser.add_argument("--channels", type=int, default=192)
    parser.add_argument("--backward", action="store_true", help="forward + backward too")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=20.0, help="per photograph, N, direction")
    default = ROOT / "benchmarks/results/attention_photos.json"
    parser.add_argument("--json", type=Path, default=default)
    arguments = parser.parse_args()
    data = Path(os.environ.get("HSPAN_DATA", ROOT.parent / "shared/data"))
    side = isqrt(max(arguments.tokens) - 1) + 1  # of the smallest square with so many tokens
    images = photographs(data / "benchmarks/Urban100/HR", arguments.photographs, side)
    directions = ("forward", "forward+backward") if arguments.backward else ("forward",)
    start = Settings(
        channels=arguments.channels,
        threads=arguments.threads,
        directions=directions,
        methods=COMPARED,
        budget=arguments.seconds * len(directions),
    )
    report = bench_attention(
        [replace(start, image=i, tokens=(n,)) for n in arguments.tokens for i in images],
        on_case=lambda case: print(
            case.source,
            case.direction,
            *(f"{r.method} {r.milliseconds or 0:.1f}" for r in case.results),
            file=sys.stderr,
            flush=True,
        ),
        on_report=lambda report: report.save(arguments.json),
    )
    for tokens in arguments.tokens:
        for direction in directions:
            print(*summary(report, tokens, direction), sep="\n")


if __name__ == "__main__":
    main()

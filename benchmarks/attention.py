"""Attention on all the settings that docs/benchmarks.md reports, as JSON and a figure.

    python benchmarks/attention.py [--threads 2] [--minutes 60]

Channels 192 and 64; N from 2,304 to 65,536; photographs' features at T ≈ 8, 32 and 128, those of
the shipped network, and Gaussian ones; forward and forward + backward; every instruction set of the
compiled kernels at N = 16,384; peak memory. `hspan bench attention` measures one of these at a
time. Run the tests first, and leave the machine alone meanwhile.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from hspan.evaluation.bench_attention import (
    METHODS,
    AttentionReport,
    Case,
    Settings,
    alike,
    bench_attention,
    plot_attention,
)

ROOT = Path(__file__).parents[1]
TOKENS = (2304, 4096, 9216, 16384, 36864, 65536)
BOTH = ("forward", "forward+backward")


def settings(threads: int, seconds: float, tokens: tuple[int, ...]) -> list[Settings]:
    """What is measured, with the share of the time that each part gets."""
    most = min(max(tokens), 16384)
    start = Settings(tokens=tokens, threads=threads, memory=True)
    few = replace(start, memory=False)
    levels = tuple(name for name, method in METHODS.items() if method.instruction_set)
    compared = ("released", "sdpa-fp32", "sdpa-bf16")
    return [
        replace(start, directions=BOTH, budget=0.40 * seconds),
        replace(start, channels=64, directions=BOTH, budget=0.16 * seconds),
        replace(few, support=8.0, budget=0.09 * seconds),
        replace(few, support=128.0, budget=0.09 * seconds),
        replace(few, features="network", budget=0.09 * seconds),
        replace(few, features="gaussian", budget=0.09 * seconds),
        replace(few, tokens=(most,), methods=compared + levels, budget=0.04 * seconds),
        replace(start, directions=("forward+saved",), methods=(), budget=0.04 * seconds),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--minutes", type=float, default=60.0, help="for all timings together")
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/attention.json")
    parser.add_argument("--figures", type=Path, default=ROOT / "docs/figures")
    arguments = parser.parse_args()
    os.environ.setdefault("HSPAN_DATA", str(ROOT.parent / "shared" / "data"))

    def show(case: Case) -> None:
        times = [f"{r.method} {r.milliseconds:.1f} ms" for r in case.results if r.milliseconds]
        what = f"N = {case.tokens:,}, {case.features}, T = {case.support or 0:.0f}"
        print(f"{what}, {case.direction}: {', '.join(times) or case.skipped}", flush=True)

    report = bench_attention(
        settings(arguments.threads, 60 * arguments.minutes, tuple(arguments.tokens)),
        say=lambda line: print(f"  {line}", file=sys.stderr, flush=True),
        on_case=show,
        on_report=lambda report: report.save(arguments.json),
    )
    draw(report, arguments.figures)


def draw(report: AttentionReport, folder: Path) -> None:
    """One figure per direction of the first input: forward, and forward + backward."""
    for direction in BOTH:
        first = next(c for c in report.cases if c.direction == direction and c.skipped is None)
        name = "attention" if direction == "forward" else "attention_backward"
        paths = [folder / f"{name}{suffix}" for suffix in (".png", ".svg")]
        plot_attention(report, paths, cases=alike(report.cases, first))


if __name__ == "__main__":
    main()

"""Every network of the paper's tables: time, memory and multiply-adds, as JSON and a figure.

    python benchmarks/models.py [--scale 4] [--size 64 64] [--threads 2] [--minutes 30] [FILE...]

Figures 9 and 10 show published PSNR against parameters and against time; docs/figures/models.* is
drawn so, with times of this machine. Networks have random weights, which changes nothing about the
time of convolutions; for attention's, give checkpoint files instead of names. Run the tests first,
and leave the machine alone meanwhile.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from hspan.evaluation.bench_models import ModelCase, ModelSettings, bench_models, plot_models
from hspan.models import list_models

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list_models())
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--size", type=int, nargs=2, action="append", metavar=("H", "W"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--minutes", type=float, default=30.0, help="for all timings together")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks/results/models.json")
    parser.add_argument("--figures", type=Path, default=ROOT / "docs/figures")
    arguments = parser.parse_args()
    # The first is what ratios are over.
    models = sorted(arguments.models, key=lambda name: name != "hspan")

    def show(case: ModelCase) -> None:
        for r in case.results:
            time = r.skipped or f"{r.milliseconds:.1f} ms"
            print(f"{case.height}×{case.width}, {r.model}: {time}", flush=True)

    report = bench_models(
        ModelSettings(
            models=tuple(models),
            scale=arguments.scale,
            sizes=tuple(map(tuple, arguments.size or [(64, 64)])),
            threads=arguments.threads,
            budget=60 * arguments.minutes,
            memory=True,
        ),
        say=lambda line: print(f"  {line}", file=sys.stderr, flush=True),
        on_case=show,
    )
    text = json.dumps(report.to_json(), indent=1, allow_nan=False, ensure_ascii=False)
    arguments.json.write_text(text + "\n", encoding="utf-8")
    plot_models(report, [arguments.figures / f"models{suffix}" for suffix in (".png", ".svg")])


if __name__ == "__main__":
    main()

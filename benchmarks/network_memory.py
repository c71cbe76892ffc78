"""What a process that runs a network holds at most, with softmax and with soft thresholding.

    python benchmarks/network_memory.py [NAME...] [--scales 2 3 4] [--size 128] [--again]
    python benchmarks/network_memory.py --table

One forward pass in float32 on one thread, random weights, in the middle of a bundled photograph;
each case in a process of its own, whose peak counts with libraries, weights and images. Networks
that declare their attention weighting run a second time after `replace_softmax`. Results go to
benchmarks/results after each case; what is there already isn't repeated unless ``--again`` says so.
``--table`` prints them as Markdown.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from hspan import create_model, replace_softmax
from hspan.imaging import read_image
from hspan.models import list_models

ROOT = Path(__file__).parents[1]
PHOTOGRAPH = ROOT / "src/hspan/evaluation/bench_attention/astronaut.webp"
WEIGHTED = ("csnln", "nlsn", "rnan", "san")  # whose softmax can be replaced
WEIGHTINGS = ("softmax", "soft-threshold")
# CSNLN's cell runs 12 times in turn. Nothing of a run is kept but two images, so that the second
# run's peak is the last one's, in a sixth of the time: 20 minutes at x4.
SETTINGS: dict[str, dict[str, int]] = {"csnln": {"depth": 2}}


def measure(name: str, scale: int, size: int, weighting: str) -> dict[str, float]:
    """Run in a process of its own."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pixels = torch.from_numpy(read_image(PHOTOGRAPH).pixels.copy()).permute(2, 0, 1)
    y, x = ((side - size) // 2 for side in pixels.shape[1:])
    image = pixels[None, :, y : y + size, x : x + size] / 255
    network = create_model(name, scale=scale, **SETTINGS.get(name, {})).eval()
    if weighting == "soft-threshold":
        replace_softmax(network)
    start = time.process_time()
    with torch.no_grad():
        network(image)
    seconds = time.process_time() - start
    # On Linux a process's peak begins with that of the one that started it, which is small here.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"peak_gb": round(peak / 1e9, 2), "processor_seconds": round(seconds, 1)}


def case_key(name: str, scale: int, weighting: str) -> str:
    return f"{name} x{scale}, {weighting}" if name in WEIGHTED else f"{name} x{scale}"


def table(networks: dict[str, dict[str, float]], scales: list[int]) -> str:
    """A row per network that was measured, and a dash for what was not."""

    def cell(name: str, weighting: str) -> str:
        keys = [case_key(name, scale, weighting) for scale in scales]
        peaks = [f"{networks[key]['peak_gb']:.2f}" if key in networks else "–" for key in keys]
        return ", ".join(peaks) + " GB"

    heads = (f"{kind} {', '.join(f'×{scale}' for scale in scales)}" for kind in WEIGHTINGS)
    rows = [f"| network | {' | '.join(heads)} |", "|---|---|---|"]
    for name in sorted({key.split()[0] for key in networks}):
        second = cell(name, "soft-threshold") if name in WEIGHTED else ""
        rows.append(f"| `{name}` | {cell(name, 'softmax')} | {second} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list_models())
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--again", action="store_true", help="measure what has a result, too")
    parser.add_argument(
        "--json", type=Path, default=ROOT / "benchmarks/results/network_memory.json"
    )
    parser.add_argument("--table", action="store_true", help="print the results; measure nothing")
    parser.add_argument("--weighting", help=argparse.SUPPRESS)  # of the one case in a process
    arguments = parser.parse_args()
    if arguments.weighting:
        [name], [scale] = arguments.names, arguments.scales
        print(json.dumps(measure(name, scale, arguments.size, arguments.weighting)))
        return
    report: dict[str, Any] = {"size": arguments.size, "networks": {}}
    if arguments.json.exists():
        report = json.loads(arguments.json.read_text(encoding="utf-8"))
    if arguments.table:
        print(table(report["networks"], arguments.scales))
        return
    for name in arguments.names:
        for weighting in WEIGHTINGS[: 1 + (name in WEIGHTED)]:
            for scale in arguments.scales:
                key = case_key(name, scale, weighting)
                if key in report["networks"] and not arguments.again:
                    continue
                case = [sys.executable, __file__, name, "--scales", str(scale)]
                case += ["--size", str(arguments.size), "--weighting", weighting]
                out = subprocess.run(case, check=True, capture_output=True, text=True).stdout
                report["networks"][key] = json.loads(out)
                print(f"{key}: {report['networks'][key]}", flush=True)
                text = json.dumps(report, indent=1, ensure_ascii=False)
                arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""An image in one piece against the same image in tiles: time, peak memory, PSNR.

    python benchmarks/whole_image.py HR.png... --out benchmarks/results/whole_image.json

From every HR image a square of twice ``--side`` pixels is cut out of the middle and reduced to half
(BI). Enlarged again by hspan-light ×2 in one piece and in tiles, by `Upscaler`, as `hspan upscale`
does it: alternating in one process, each way as often as ``--repeats`` says; medians of the time,
and the mean of the PSNR on Y. Peak memory is that of fresh processes, above what they held before
the call (Linux only). What takes long is measured once, on the first image: attention in PyTorch
instead of compiled, patches of 1 (N is then the number of LR pixels), and HSPAN-S with random
weights on half the side.

Whoever uses the machine meanwhile is in these numbers: the load is saved with them, and the
processor time, which with ``--threads 1`` is what the work costs however busy the machine is.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hspan.evaluation.bench_attention._machine import describe_run
from hspan.imaging import degrade, read_image
from hspan.inference import Planes, Upscaler
from hspan.metrics import psnr
from hspan.models import create_model
from hspan.modules import HSPA
from hspan.weights import load_model

SCALE = 2


@dataclass(frozen=True)
class Way:
    """One way to enlarge an image."""

    tile: int | str = 0
    model: str = "hspan-light"
    patch: int | None = None  # None: the network's own
    backend: str = "auto"
    side: int = 512  # LR pixels

    def upscaler(self) -> Upscaler:
        network = self._network()
        for block in network.modules():
            if isinstance(block, HSPA):
                block.patch = self.patch or block.patch
                block.backend = self.backend
        return Upscaler(network, SCALE, tile=self.tile)

    def _network(self) -> nn.Module:
        if self.model == "hspan-light":
            return load_model(self.model, scale=SCALE, device="cpu")
        torch.manual_seed(0)
        return create_model(self.model, scale=SCALE)

    @property
    def name(self) -> str:
        patch = f", patch {self.patch}" if self.patch else ""
        return f"{self.model}{patch}, {self.backend}, {self.side}×{self.side}, tile {self.tile}"


def pair(file: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """HR [2·side, 2·side, 3] from the middle of an image, and its LR image."""
    pixels, full = read_image(file).pixels, SCALE * side
    if min(pixels.shape[:2]) < full:
        raise SystemExit(f"{file} is smaller than {full}×{full} pixels")
    top, left = ((length - full) // 2 for length in pixels.shape[:2])
    hr = np.broadcast_to(pixels[top : top + full, left : left + full], (full, full, 3))
    return hr, degrade(hr, SCALE)


def status(field: str) -> int:
    """Bytes that Linux reports of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def peak_memory(way: Way, file: Path) -> int:
    """Bytes that enlarging takes in a process of its own."""
    words = [sys.executable, __file__, str(file), "--memory-of", json.dumps(asdict(way))]
    words += ["--threads", str(torch.get_num_threads())]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def report_memory(way: Way, file: Path) -> None:
    """What the process started by ``peak_memory`` does."""
    upscaler, (_, lr) = way.upscaler(), pair(file, way.side)
    upscaler.plan(*lr.shape[:2])
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = status("VmRSS")
    upscaler.upscale(Planes(lr))
    print(status("VmHWM") - before)


def measure(ways: list[Way], files: list[Path], repeats: int) -> list[dict[str, Any]]:
    """All ways on all images, alternating."""
    upscalers = [way.upscaler() for way in ways]
    seconds: list[list[float]] = [[] for _ in ways]
    processor: list[list[float]] = [[] for _ in ways]
    scores: list[list[float]] = [[] for _ in ways]
    summaries = [""] * len(ways)
    for file in files:
        hr, lr = pair(file, ways[0].side)
        for repeat in range(repeats):
            for i, upscaler in enumerate(upscalers):
                start, busy = time.perf_counter(), time.process_time()
                result, report = upscaler.upscale(Planes(lr))
                seconds[i].append(time.perf_counter() - start)
                processor[i].append(time.process_time() - busy)
                summaries[i] = report.summary
                if repeat == 0:
                    scores[i].append(psnr(result.pixels, hr, SCALE))
    rows: list[dict[str, Any]] = []
    for i, way in enumerate(ways):
        plan = upscalers[i].plan(way.side, way.side)
        row = {
            **asdict(way),
            "processed": summaries[i],
            "images": len(files),
            "seconds": statistics.median(seconds[i]),
            "processor_seconds": statistics.median(processor[i]),
            "seconds_of_all_runs": [round(s, 3) for s in seconds[i]],
            "predicted_seconds": plan.predicted_seconds,
            "peak_bytes": peak_memory(way, files[0]),
            "predicted_bytes": plan.predicted_bytes,
        }
        if way.model == "hspan-light":
            row["psnr_y"] = statistics.mean(scores[i])
            row["psnr_y_of_images"] = [round(s, 4) for s in scores[i]]
        rows.append(row)
        print(line(way, row), flush=True)
    return rows


def line(way: Way, row: dict[str, Any]) -> str:
    score = f", {row['psnr_y']:.3f} dB" if "psnr_y" in row else ""
    seconds = f"{row['seconds']:.2f} s, of processors {row['processor_seconds']:.2f} s"
    memory = f"{row['peak_bytes'] / 2**20:.0f} MiB"
    predicted = f"{row['predicted_seconds']:.2f} s, {row['predicted_bytes'] / 2**20:.0f} MiB"
    return f"{way.name} ({row['processed']}): {seconds}, {memory} (predicted {predicted}){score}"


def circumstances() -> dict[str, Any]:
    return {
        **describe_run(),
    }


def save(run: dict[str, Any], file: Path) -> None:
    """Put a run into the file, in place of an earlier one with as many threads."""
    runs = json.loads(file.read_text()) if file.exists() else []
    runs = [*(r for r in runs if r["threads"] != run["threads"]), run]
    file.write_text(json.dumps(runs, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--tiles", nargs="*", default=["auto", "256", "192", "128"])
    parser.add_argument("--side", type=int, default=512, help="of the LR image")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="leave out what takes long")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        report_memory(Way(**json.loads(arguments.memory_of)), arguments.images[0])
        return
    side = arguments.side
    tiles = [t if t == "auto" else int(t) for t in arguments.tiles]
    before = circumstances()
    rows = measure([Way(t, side=side) for t in tiles], arguments.images, arguments.repeats)
    if not arguments.quick:
        for way in (
            Way(0, backend="screened", side=side),
            Way(128, backend="screened", side=side),
            Way(0, patch=1, side=side),
            Way(128, patch=1, side=side),
            Way(0, model="hspan-s", side=side // 2),
        ):
            rows += measure([way], arguments.images[:1], 1)
    if arguments.out:
        run = {**before, "files": [f.name for f in arguments.images], "results": rows}
        save(run, arguments.out)


if __name__ == "__main__":
    main()

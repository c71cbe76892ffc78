"""Exported hspan-light in ONNX Runtime beside the package itself: scores, time, memory.

    python benchmarks/onnx_runtime.py SET5 --calibrate LR_IMAGES --threads 1 --out FILE.json

PSNR on Y of every form and precision over a folder of HR images (``DIR/*.png`` or ``DIR/HR``), LR
made by bicubic reduction, whole images, as ``hspan eval`` scores them. Time on square random
images, all sides in one process in turn, ``--repeats`` rounds; medians, and the ratio to the
package in the same round. Peak memory is that of fresh processes above what they held before the
call (Linux only).

The processor time is saved beside the wall's: with ``--threads 1`` it is what the work costs
however busy the machine is.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hspan.evaluation.bench_attention._machine import describe_run
from hspan.export import export_model, onnx_runner
from hspan.imaging import crop_to_multiple, degrade, images_in, read_image, to_uint8
from hspan.metrics import psnr
from hspan.weights import load_model

SCALE = 2
FORMS = {
    "fp32": {},
    "fp32, memory-linear": {"memory_linear": True},
    "fp16, memory-linear": {"memory_linear": True, "precision": "fp16"},
    "int8": {"precision": "int8"},
}


def export_all(folder: Path, calibration: Path | None) -> dict[str, dict[str, Any]]:
    """Every form as a file, with what its check found."""
    network = load_model("hspan-light", scale=SCALE, device="cpu")
    made: dict[str, dict[str, Any]] = {}
    for name, options in FORMS.items():
        if options.get("precision") == "int8":
            if calibration is None:
                continue
            options = {**options, "calibration": calibration}
        path = folder / f"{len(made)}.onnx"
        busy = time.process_time()
        exported = export_model(network, path, **options)
        made[name] = {
            "path": path,
            "bytes": exported.bytes,
            "export_processor_seconds": round(time.process_time() - busy, 1),
            "deviations": [vars(d) for d in exported.deviations],
        }
        print(f"{name}: {exported.bytes} bytes", flush=True)
    return made


def packaged():
    """The package itself as a function of the same signature as an ONNX file's."""
    network = load_model("hspan-light", scale=SCALE, device="cpu")

    def run(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(image)).numpy()

    return run


def score(run, folder: Path) -> list[float]:
    """PSNR on Y of every image of a folder."""
    found: list[float] = []
    for path in images_in(folder / "HR" if (folder / "HR").is_dir() else folder):
        pixels = crop_to_multiple(read_image(path).pixels, SCALE)
        hr = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        lr = degrade(hr, SCALE).astype(np.float32) / np.float32(255)
        sr = run(np.ascontiguousarray(lr.transpose(2, 0, 1)[None]))[0].transpose(1, 2, 0)
        found.append(psnr(to_uint8(sr), hr, SCALE))
    return found


def measure_time(runs: dict[str, Any], side: int, repeats: int) -> list[dict[str, Any]]:
    """All in turn on the same image; the first round warms up."""
    image = np.random.default_rng(0).random((1, 3, side, side), dtype=np.float32)
    wall: dict[str, list[float]] = {name: [] for name in runs}
    processor: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(repeats + 1):
        for name, run in runs.items():
            start, busy = time.perf_counter(), time.process_time()
            run(image)
            if round_:
                wall[name].append(time.perf_counter() - start)
                processor[name].append(time.process_time() - busy)
    ours = processor["hspan"]
    rows = [
        {
            "what": name,
            "side": side,
            "seconds": statistics.median(wall[name]),
            "processor_seconds": statistics.median(processor[name]),
            "ratio_to_hspan": statistics.median(
                theirs / own for theirs, own in zip(processor[name], ours, strict=True)
            ),
        }
        for name in runs
    ]
    for row in rows:
        print(row, flush=True)
    return rows


def status(field: str) -> int:
    """Bytes that Linux reports of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def report_memory(source: str, side: int, threads: int) -> None:
    """What the process started by ``peak_memory`` does."""
    run = packaged() if source == "hspan" else onnx_runner(Path(source).read_bytes(), threads)
    run(np.zeros((1, 3, 16, 16), dtype=np.float32))
    image = np.random.default_rng(0).random((1, 3, side, side), dtype=np.float32)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = status("VmRSS")
    run(image)
    print(status("VmHWM") - before)


def peak_memory(source: str, side: int, threads: int) -> int:
    """Bytes that enlarging one image takes in a process of its own."""
    words = [sys.executable, __file__, source, "--memory-of", str(side)]
    words += ["--threads", str(threads)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="of HR images")
    parser.add_argument("--calibrate", type=Path, metavar="DIR", help="LR images for int8")
    parser.add_argument("--sides", nargs="*", type=int, default=[64, 128, 256])
    parser.add_argument("--memory-side", type=int, default=512)
    parser.add_argument("--matrix-memory-side", type=int, default=256, help="of the other forms")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        report_memory(arguments.folder, arguments.memory_of, arguments.threads)
        return
    result: dict[str, Any] = {
        **describe_run(),
        "model": f"hspan-light ×{SCALE}",
        "forms": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        made = export_all(Path(folder), arguments.calibrate)
        runs: dict[str, Any] = {"hspan": packaged()}
        for name, facts in made.items():
            runs[name] = onnx_runner(facts["path"].read_bytes(), arguments.threads)
        for name, run in runs.items():
            scores = score(run, Path(arguments.folder))
            facts = {k: v for k, v in made.get(name, {}).items() if k != "path"}
            result["forms"][name] = {**facts, "psnr_y": statistics.mean(scores), "of": scores}
            print(f"{name}: {statistics.mean(scores):.4f} dB", flush=True)
        result["times"] = [
            row for side in arguments.sides for row in measure_time(runs, side, arguments.repeats)
        ]
        result["peak_bytes"] = []
        for name in runs:
            linear = name == "hspan" or "linear" in name
            for side in {arguments.matrix_memory_side, arguments.memory_side if linear else 0}:
                if side:
                    source = str(made[name]["path"]) if name in made else "hspan"
                    peak = peak_memory(source, side, arguments.threads)
                    result["peak_bytes"].append({"what": name, "side": side, "bytes": peak})
                    print(f"{name}, {side}×{side}: {peak / 2**20:.0f} MiB", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

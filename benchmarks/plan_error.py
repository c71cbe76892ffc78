"""Forecasts of ``hspan upscale --dry-run`` beside what happens: peak memory, time, file size.

Every image is upscaled in a process of its own, which first forecasts and then works; the kernel
says how much memory it held at most (Linux). Images are cut from the bundled photograph, enlarged
where they must be, so that their content is that of photographs.

    python benchmarks/plan_error.py --out benchmarks/results/plan_error.json
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODELS = ("bicubic", "hspan-light", "edsr-baseline")
# Width, height, kind of file.
SIZES = (
    *((64, 48, "png"), (96, 128, "jpg"), (160, 120, "tif"), (200, 200, "png"), (256, 192, "webp")),
    *((240, 320, "jpg"), (320, 320, "tif16"), (400, 300, "png"), (333, 451, "avif")),
    *((500, 300, "png16"), (512, 384, "jpg"), (480, 480, "png"), (640, 360, "webp")),
    *((600, 450, "tif"), (512, 576, "jpg"), (700, 500, "png"), (640, 640, "tif16")),
    *((800, 600, "jpg"), (720, 720, "png"), (1000, 640, "tif")),
)

ONE = """
import json, sys, time
from pathlib import Path
from hspan.inference import Job, Upscaler, forecast_file, upscale_file
from hspan.models import create_model

name, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
model = name if name == "hspan-light" else create_model(name, scale=2).eval()
upscaler = Upscaler(model, 2)
found = forecast_file(upscaler, source, target)
begin = time.perf_counter()
upscale_file(upscaler, Job(source, target))
seconds = time.perf_counter() - begin
lines = Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
print(json.dumps({
    "memory": [found.memory_bytes, peak],
    "seconds": [found.seconds, seconds],
    "output": [found.output_bytes, target.stat().st_size],
    "held_before": found.held_bytes,
    "processed": found.plan.summary,
}))
"""


def make_image(folder: Path, width: int, height: int, kind: str) -> Path:
    from hspan.imaging import imresize, read_image, write_image

    picture = read_image(ROOT / "examples" / "astronaut.png")
    import dataclasses

    pixels = picture.pixels
    if kind.endswith("16"):
        pixels = pixels.astype("uint16") * 257
    pixels = imresize(pixels, size=(height, width))
    path = folder / f"{width}x{height}-{kind}.{kind.removesuffix('16')}"
    write_image(path, dataclasses.replace(picture, pixels=pixels), quality=90)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="only every so many-th")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    step = max(1, len(SIZES) // arguments.sizes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in arguments.models:
            for width, height, kind in SIZES[step - 1 :: step]:
                source = make_image(folder, width, height, kind)
                target = source.with_name(f"out-{source.name}")
                run = subprocess.run(
                    [sys.executable, "-c", ONE, model, str(source), str(target)],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                row = {"model": model, "width": width, "height": height, "kind": kind}
                row |= json.loads(run.stdout)
                target.unlink()
                rows.append(row)
                predicted, measured = row["memory"]
                print(
                    f"{model:14} {width:5}x{height:<5} {kind:6} memory {measured / 1e6:6.0f} MB, "
                    f"forecast {predicted / measured - 1:+.0%}; seconds {row['seconds'][1]:.1f}, "
                    f"forecast {row['seconds'][0]:.1f}; {row['processed']}",
                    flush=True,
                )
    errors = [abs(r["memory"][0] / r["memory"][1] - 1) for r in rows]
    print(f"largest error of memory {max(errors):.0%}, mean {sum(errors) / len(errors):.0%}")
    import torch

    arguments.out.write_text(
        json.dumps(
            {
                "date": time.strftime("%Y-%m-%d"),
                "processor": platform.processor() or platform.machine(),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "rows": rows,
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()

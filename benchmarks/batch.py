"""A folder with broken files among good ones: what becomes of each, and how fast.

    python benchmarks/batch.py [--images 1000] [--side 128] [--out FILE.json]

makes a folder of small images, 17 of them broken in different ways, and upscales it as the command
does. Beside it, the network's own time: the same images, read beforehand, and nothing written. Both
take turns, a share of the folder each, so that other programs on the machine slow both; throughput
is the network's time divided by the batch's.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import struct
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hspan.imaging import read_image
from hspan.inference import Job, Outcome, Upscaler, plan_files, upscale_batch

SHARES = 10  # turns


def photograph(side: int, seed: int) -> Image.Image:
    """Smooth, with some noise: what a codec meets."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.int16)
    noisy = smooth + rng.integers(-4, 5, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_with_header(width: int, height: int, depth: int = 8) -> bytes:
    """A valid beginning that promises pixels, and hardly any."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


def broken_files(side: int) -> dict[str, bytes]:
    """17 files that can't be upscaled, each for a reason of its own."""
    image = photograph(side, 0)
    png, jpeg, webp = (encoded(image, kind) for kind in ("PNG", "JPEG", "WEBP"))
    tiff = encoded(image, "TIFF", compression="tiff_lzw")
    middle = len(png) // 2
    flipped = png[:middle] + bytes(b ^ 0xFF for b in png[middle : middle + 8]) + png[middle + 8 :]
    frames = [photograph(side, i) for i in range(2)]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    first = struct.unpack("<I", tiff[4:8])[0]
    no_pixels = Image.fromarray(np.full((side, side), np.nan, np.float32))
    return {
        "empty.png": b"",
        "one_byte.png": b"\x89",
        "text.jpg": b"This is no image.\n",
        "html.png": b"<!doctype html><title>404</title>",
        "archive.jpg": b"PK\x03\x04" + bytes(200),
        "heic.jpg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
        "cut.png": png[:middle],
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "cut.webp": webp[: len(webp) // 2],
        "cut.tif": tiff[: len(tiff) // 2],
        "flipped.png": flipped,
        "headless.png": png[:8] + png[60:],
        "bomb.png": png_with_header(60_000, 60_000),
        "hollow.png": png_with_header(side, side),
        "moving.gif": moving,
        "astray.tif": tiff[:4] + struct.pack("<I", len(tiff) + 99) + tiff[8:first],
        "nan.tif": encoded(no_pixels, "TIFF"),
    }


def make_folder(folder: Path, images: int, side: int) -> list[str]:
    """Fill a folder; return the names of the broken files in it."""
    broken = broken_files(side)
    kinds = (("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("tif", "TIFF"))
    for i in range(images - len(broken)):
        suffix, kind = kinds[i % 4]
        place = folder / f"{i // 100:02}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:05}.{suffix}").write_bytes(encoded(photograph(side, i), kind))
    for i, (name, content) in enumerate(broken.items()):
        place = folder / f"{i % 10:02}"
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return sorted(broken)


def timed(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def measure(folder: Path, out: Path, model: str) -> dict[str, object]:
    upscaler = Upscaler(model, 2, device="cpu")
    planning = time.perf_counter()
    jobs, failures = plan_files([folder], 2, out=out, recursive=True)
    planning = time.perf_counter() - planning
    outcomes: list[Outcome] = []
    network: list[float] = []
    batch: list[float] = []
    share = -(-len(jobs) // SHARES)

    def alone(part: list[Job]) -> float:
        pictures = []
        for job in part:
            try:
                pictures.append(read_image(job.source))
            except ValueError:
                continue  # broken behind its header
        return timed(lambda: [_try(upscaler, picture) for picture in pictures])

    upscaler(read_image(jobs[0].source))  # the first call measures the network
    for turn in range(SHARES):
        part = jobs[turn * share : (turn + 1) * share]
        if turn % 2:
            network.append(alone(part))
        batch.append(timed(lambda p=part: outcomes.extend(upscale_batch(upscaler, p))))
        if not turn % 2:
            network.append(alone(part))
    failed = {o.job.source.name: o.error for o in outcomes if o.status == "failed"}
    failed |= {f.source.name: f.reason for f in failures}
    return {
        "done": sum(o.status == "done" for o in outcomes),
        "failed": dict(sorted(failed.items())),
        "seconds_planning": round(planning, 3),
        "seconds_batch": [round(s, 3) for s in batch],
        "seconds_network": [round(s, 3) for s in network],
        "throughput_of_the_networks_own": round(sum(network) / (sum(batch) + planning), 3),
    }


def _try(upscaler: Upscaler, picture: object) -> None:
    try:
        upscaler.upscale_picture(picture)
    except ValueError:
        pass  # NaN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("-m", "--model", default="hspan-light")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder, out = Path(work) / "in", Path(work) / "out"
        broken = make_folder(folder, options.images, options.side)
        result = measure(folder, out, options.model)
        written = sorted(path for path in out.rglob("*") if path.is_file())
        for path in written:
            with Image.open(path) as image:  # a reader that isn't ours
                image.load()
                assert image.size == (2 * options.side, 2 * options.side), path
    assert sorted(result["failed"]) == broken, result["failed"]
    assert len(written) == result["done"] == options.images - len(broken)
    settings = {"images": options.images, "side": options.side, "model": options.model}
    machine = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    machine |= {"python": platform.python_version(), "processor": platform.machine()}
    text = json.dumps({"settings": settings, "machine": machine, **result}, indent=2)
    text = text.replace(f"{work}/", "")
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()

"""What attention adds to a training step of hspan-light.

    python benchmarks/training_attention.py IMAGE... [--threads 1] [--out FILE.json]

One step is forward, L1 loss, backward, clipping and Adam, in bf16, as the recipe does it, on
batches of 16 patches of 48×48 LR pixels cut out of the images. The network without attention, and
with one block and with two, over patches of 4×4 positions as shipped and over single positions as
in the paper, take turns step by step in one process; medians, and the medians of the ratios to the
step without attention of the same turn. All train from scratch for ``--warm-up`` steps first, since
what attention costs depends on how many keys a query keeps; that number, T, is reported. With one
thread, processor time doesn't depend on how busy the machine is.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.evaluation.bench_attention._machine import describe_run
from hspan.imaging import degrade, read_image
from hspan.models import HSPANLight, HSPANLightConfig
from hspan.modules import HSPA
from hspan.ops import attention_support

SCALE, PATCH = 2, 48

DESIGNS: dict[str, HSPANLightConfig] = {
    "no attention": HSPANLightConfig(attention_after=()),
    "one, patch 4": HSPANLightConfig(),
    "two, patch 4": HSPANLightConfig(attention_after=(5, 10)),
    "one, patch 1": HSPANLightConfig(patch=1),
    "two, patch 1": HSPANLightConfig(attention_after=(5, 10), patch=1),
}


class Step:
    """A network in training."""

    def __init__(self, config: HSPANLightConfig) -> None:
        torch.manual_seed(0)
        self.network = HSPANLight(config).to(memory_format=torch.channels_last)
        self._adam = torch.optim.Adam(self.network.parameters(), lr=1e-3, fused=True)

    def run(self, lr: Tensor, hr: Tensor) -> tuple[float, float]:
        """Train once; return seconds that passed, and processor seconds."""
        start, busy = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            sr = self.network(lr)
        self._adam.zero_grad()
        F.l1_loss(sr.float(), hr).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 0.5)
        self._adam.step()
        return time.perf_counter() - start, time.process_time() - busy

    def tokens(self, lr: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Query, key and value of each attention block."""
        found: list[tuple[Tensor, Tensor, Tensor]] = []

        def take(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            assert isinstance(block, HSPA)
            found.append(block.tokens(inputs[0]))

        blocks = [m for m in self.network.modules() if isinstance(m, HSPA)]
        handles = [block.register_forward_pre_hook(take) for block in blocks]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            self.network(lr)
        for handle in handles:
            handle.remove()
        return found

    def kept(self, lr: Tensor) -> list[float]:
        """T of each attention block: keys that a query keeps, on average."""
        return [kept_keys(query, key) for query, key, _ in self.tokens(lr)]


def kept_keys(query: Tensor, key: Tensor) -> float:
    indices = attention_support(query.float(), key.float())[1]
    return len(indices) / query.shape[:2].numel()


class Patches:
    """Batches of patches, HR from anywhere in the images and LR by BI."""

    def __init__(self, files: list[Path], batch: int) -> None:
        self._pairs = [(hr, degrade(hr, SCALE)) for hr in map(self._read, files)]
        self._batch = batch
        self._random = np.random.default_rng(0)

    def _read(self, file: Path) -> np.ndarray:
        pixels = read_image(file).pixels
        height, width = (side // SCALE * SCALE for side in pixels.shape[:2])
        return np.broadcast_to(pixels[:height, :width], (height, width, 3))

    def draw(self) -> tuple[Tensor, Tensor]:
        lrs, hrs = [], []
        for _ in range(self._batch):
            hr, lr = self._pairs[self._random.integers(len(self._pairs))]
            y, x = (int(self._random.integers(side - PATCH + 1)) for side in lr.shape[:2])
            lrs.append(lr[y : y + PATCH, x : x + PATCH])
            y, x, side = SCALE * y, SCALE * x, SCALE * PATCH
            hrs.append(hr[y : y + side, x : x + side])
        lr, hr = (torch.from_numpy(np.stack(a)).permute(0, 3, 1, 2) / 255 for a in (lrs, hrs))
        return lr.contiguous(memory_format=torch.channels_last), hr


def measure(names: list[str], data: Patches, warm_up: int, turns: int) -> list[dict[str, Any]]:
    steps = {name: Step(DESIGNS[name]) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    processor: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warm_up + turns):
        lr, hr = data.draw()
        for name, step in steps.items():
            passed, busy = step.run(lr, hr)
            if turn >= warm_up:
                seconds[name].append(passed)
                processor[name].append(busy)
    lr, _ = data.draw()

    def ratio(times: dict[str, list[float]], name: str) -> float:
        pairs = zip(times[name], times[names[0]], strict=True)
        return statistics.median(a / b for a, b in pairs)

    return [
        {
            "design": name,
            "seconds": statistics.median(seconds[name]),
            "ratio": ratio(seconds, name),
            "processor_seconds": statistics.median(processor[name]),
            "processor_ratio": ratio(processor, name),
            "kept_keys": step.kept(lr),
        }
        for name, step in steps.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--designs", nargs="*", default=list(DESIGNS), choices=list(DESIGNS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {
        **describe_run(),
        "batch": arguments.batch,
        "warm_up": arguments.warm_up,
        "turns": arguments.turns,
    }
    names = ["no attention", *(n for n in arguments.designs if n != "no attention")]
    data = Patches(arguments.images, arguments.batch)
    result["results"] = measure(names, data, arguments.warm_up, arguments.turns)
    for row in result["results"]:
        kept = ", ".join(f"{count:.0f}" for count in row["kept_keys"])
        passed = f"{row['seconds'] * 1e3:.0f} ms, ratio {row['ratio']:.2f}"
        busy = f"{row['processor_seconds'] * 1e3:.0f} ms, ratio {row['processor_ratio']:.2f}"
        print(f"{row['design']}: {passed}; of processors {busy}; T = {kept or '-'}")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

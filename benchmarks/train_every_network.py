"""Whether every network trains: 200 steps on small crops, beside bicubic enlargement.

    python benchmarks/train_every_network.py --data DIR [NAME...] [--pattern 'bsd200_*'] [--again]
    python benchmarks/train_every_network.py --table

Published sizes at ×2, cheapest first. Every fifth image of DIR gives one crop of 24×24 LR pixels
that is held out, the others four. Each step takes a batch of random windows of the latter; Adam or
Muon on the L1 loss, gradients clipped, the rate rising at first and falling to zero. The L1 loss on
held-out crops before and after, and bicubic's, go to benchmarks/results after each network; what is
there already isn't repeated unless ``--again`` says so. ``--table`` prints them as Markdown.
"""

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.evaluation import model_costs
from hspan.imaging import crop_to_multiple, degrade, read_image
from hspan.models import SPMSR, create_model, list_models
from hspan.training import Muon, fit_spmsr

ROOT = Path(__file__).parents[1]
SCALE, CROP, HELD_OUT = 2, 24, 5
STEPS, WARMUP = 200, 10


@dataclass(frozen=True)
class Recipe:
    """What differs between networks.

    Attributes:
        rate: Adam's, at its highest.
        matrix_rate: Muon's for matrices, at its highest, beside Adam for vectors; None is Adam for
            everything.
        batch: windows per step.
        window: side of the LR windows, in pixels.
        precision: float32, or bf16 as training recipes have it, which takes half the time.
    """

    rate: float = 1e-3
    matrix_rate: float | None = None
    batch: int = 8
    window: int = 16
    precision: Literal["float32", "bf16"] = "float32"


# Small networks, and shallow ones that correct an enlarged image, get there with Adam. Most others
# have to learn what enlarging is, for which 200 steps of Adam are few, and of Muon enough. With
# about 200 channels Muon's products of matrices take much of the time: Adam, where it will do.
_SMALL = Recipe()
_ENLARGED = Recipe(rate=5e-4, batch=4)
_DEEP = Recipe(matrix_rate=1e-2, batch=4, window=12, precision="bf16")
_WINDOWED = replace(_DEEP, window=16)  # whose attention sees 8×8 positions at a time
_WIDE = replace(_DEEP, batch=8)  # for which 4 windows a step aren't enough
_LARGE = Recipe(rate=3e-4, batch=4, window=12, precision="bf16")
RECIPES = {
    "spmsr": _SMALL,
    "srcnn": _SMALL,
    "fsrcnn": _SMALL,
    "lapsrn": _SMALL,
    "hspan-light": _SMALL,
    "vdsr": replace(_ENLARGED, rate=3e-4),
    "srmd": _ENLARGED,
    "srmdnf": _ENLARGED,
    "swinir-light": _WINDOWED,
    "swinir": replace(_WINDOWED, batch=8),
    "san": _WIDE,
    "csnln": _WIDE,
    "dbpn-res-mr64-3": _WIDE,
    "hspan-s": _LARGE,
    "hspan": _LARGE,
    "edsr": _LARGE,
    "enlcn": _LARGE,
    "oisr-rk3": _LARGE,
    "nlsn": _LARGE,
    "ignn": _WIDE,
}


@dataclass(frozen=True)
class Crops:
    """Pairs of crops: lr [N, 3, 24, 24] and hr [N, 3, 48, 48], RGB in [0, 1]."""

    lr: Tensor
    hr: Tensor

    def loss(self, network: nn.Module) -> float:
        """Mean absolute error, the outermost LR pixel left out as scores have it."""
        network.eval()
        with torch.no_grad():
            sr = torch.cat([network(part) for part in self.lr.split(4)])
        network.train()
        inside = (..., slice(SCALE, -SCALE), slice(SCALE, -SCALE))
        return (sr[inside] - self.hr[inside]).abs().mean().item()

    def draw(self, recipe: Recipe, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Windows, each from a crop of its own."""
        size = recipe.window
        chosen = torch.randperm(len(self.lr), generator=generator)[: recipe.batch]
        starts = torch.randint(CROP - size + 1, (len(chosen), 2), generator=generator).tolist()
        lrs, hrs = [], []
        for i, (y, x) in zip(chosen.tolist(), starts, strict=True):
            lrs.append(self.lr[i, :, y : y + size, x : x + size])
            y, x, side = SCALE * y, SCALE * x, SCALE * size
            hrs.append(self.hr[i, :, y : y + side, x : x + side])
        return torch.stack(lrs), torch.stack(hrs)


def cut(files: list[Path], crops_per_image: int) -> Crops:
    random = np.random.default_rng(0)
    lrs, hrs = [], []
    for file in files:
        hr = crop_to_multiple(read_image(file).pixels, SCALE)
        lr = degrade(hr, SCALE)
        for _ in range(crops_per_image):
            y, x = (int(random.integers(side - CROP + 1)) for side in lr.shape[:2])
            lrs.append(lr[y : y + CROP, x : x + CROP])
            y, x, side = SCALE * y, SCALE * x, SCALE * CROP
            hrs.append(hr[y : y + side, x : x + side])
    lr, hr = (torch.from_numpy(np.stack(a)).permute(0, 3, 1, 2) / 255 for a in (lrs, hrs))
    return Crops(lr.contiguous(), hr.contiguous())


def train(name: str, recipe: Recipe, crops: Crops, held_out: Crops) -> dict[str, Any]:
    torch.manual_seed(0)
    network = create_model(name, scale=SCALE)
    before, start = held_out.loss(network), time.process_time()
    if isinstance(network, SPMSR):  # its dictionaries aren't learnt by gradients
        fit_spmsr(network, crops.lr, crops.hr, samples=15_000, steps=0)
    named = [(key, p) for key, p in network.named_parameters() if p.requires_grad]
    parameters = [p for _, p in named]
    optimizer: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=recipe.rate)
    if recipe.matrix_rate is not None:
        optimizer = Muon(named, lr=recipe.rate, matrix_lr=recipe.matrix_rate)
    highest = [group["lr"] for group in optimizer.param_groups]
    generator = torch.Generator().manual_seed(0)
    network.train()
    for step in range(STEPS):
        factor = min((step + 1) / WARMUP, (STEPS - step) / (STEPS - WARMUP))
        for group, rate in zip(optimizer.param_groups, highest, strict=True):
            group["lr"] = rate * factor
        lr, hr = crops.draw(recipe, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16"):
            sr = network(lr)
        loss = F.l1_loss(sr.float(), hr)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    seconds = time.process_time() - start
    return {
        **asdict(recipe),
        "before": before,
        "after": held_out.loss(network),
        "processor_seconds": round(seconds),
    }


def table(report: dict[str, Any]) -> str:
    """A row per network, cheapest first; bold where the loss is below bicubic's."""
    rows = ["| network | L1 loss before | after 200 steps | optimizer | windows | precision |"]
    rows += ["|---|---|---|---|---|---|", f"| bicubic | {report['bicubic']:.4f} | – | – | – | – |"]
    for name in by_cost(report["networks"]):
        r = report["networks"][name]
        after = f"{r['after']:.4f}"
        if r["after"] < report["bicubic"]:
            after = f"**{after}**"
        rate = f"Adam {r['rate']:g}"
        if r["matrix_rate"] is not None:
            rate = f"Muon {r['matrix_rate']:g}, {rate}"
        windows = f"{r['batch']} of {r['window']}×{r['window']}"
        rows.append(
            f"| `{name}` | {r['before']:.4f} | {after} | {rate} | {windows} | {r['precision']} |"
        )
    return "\n".join(rows)


def by_cost(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: model_costs(name)[SCALE].patch_multiply_adds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list_models())
    parser.add_argument("--data", type=Path, help="HR images")
    parser.add_argument("--pattern", default="*", help="of their names")
    parser.add_argument("--again", action="store_true", help="train what has a result, too")
    parser.add_argument("--table", action="store_true", help="print the results; train nothing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--json", type=Path, default=ROOT / "benchmarks/results/train_every_network.json"
    )
    arguments = parser.parse_args()
    report: dict[str, Any] = {"networks": {}}
    if arguments.json.exists():
        report = json.loads(arguments.json.read_text(encoding="utf-8"))
    if arguments.table:
        print(table(report))
        return
    if arguments.data is None:
        parser.error("--data DIR is needed")
    torch.set_num_threads(arguments.threads)
    files = sorted(arguments.data.glob(arguments.pattern))
    crops = cut([file for i, file in enumerate(files) if i % HELD_OUT], 4)
    held_out = cut(files[::HELD_OUT], 1)
    report |= {
        "data": arguments.pattern,
        "scale": SCALE,
        "steps": STEPS,
        "crops": len(crops.lr),
        "held_out": len(held_out.lr),
        "bicubic": held_out.loss(create_model("bicubic", scale=SCALE)),
    }
    for name in by_cost(name for name in arguments.names if name != "bicubic"):
        if name in report["networks"] and not arguments.again:
            continue
        result = train(name, RECIPES.get(name, _DEEP), crops, held_out)
        report["networks"][name] = result
        print(f"{name}: {result}, bicubic {report['bicubic']:.5f}", flush=True)
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

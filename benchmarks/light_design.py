"""Trains candidate designs of hspan-light alike and compares PSNR with time on this processor.

    python benchmarks/light_design.py train --data DIR --validation DIR DIR --out FILE.json
    python benchmarks/light_design.py time --out FILE.json

``train`` gives every design the same processor time; ``time`` measures inference of the same
designs, in turn.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.data import PatchSampler, build_cache, find_pairs, load_pair
from hspan.metrics import psnr
from hspan.models import HSPANLight, HSPANLightConfig
from hspan.modules import NLA, ResidualBlock
from hspan.training import Muon


def light(**config) -> HSPANLight:
    return HSPANLight(HSPANLightConfig(**config))


def softmax(**config) -> HSPANLight:
    """The same network with softmax in place of soft thresholding."""
    model = light(**config)
    c = model.config
    for i, block in enumerate(model.body):
        if type(block).__name__ == "HSPA":
            model.body[i] = NLA(
                c.channels, c.reduction, residual_scale=c.residual_scale, patch=c.patch
            )
    return model


class GatedBlock(nn.Module):
    """Three convolutions whose result also gates itself, without parameters (as in SPAN)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        out = F.silu(self.convs[1](F.silu(self.convs[0](x))))
        out = self.convs[2](out)
        return (out + x) * (torch.sigmoid(out) - 0.5)


class WideBlock(nn.Module):
    """A residual block with more channels before its ReLU (as in WDSR)."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(channels, channels * expansion, 3, padding=1)
        self.narrow = nn.Conv2d(channels * expansion, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(F.relu(self.widen(x)))


def exchanged(model: HSPANLight, make: Callable[[], nn.Module]) -> HSPANLight:
    """The same network with other blocks in place of its residual blocks."""
    for i, block in enumerate(model.body):
        if type(block).__name__ == "ResidualBlock":
            model.body[i] = make()
    return model


def quiet(model: HSPANLight) -> HSPANLight:
    """The same network, with residual branches that start at a tenth."""
    for block in model.body:
        if isinstance(block, ResidualBlock):
            with torch.no_grad():
                block.conv2.weight.mul_(0.1)
    return model


@dataclass(frozen=True)
class Variant:
    """A design and how it is trained.

    Attributes:
        build: gives the network with fresh weights.
        optimizer: "adam", or "muon" for the inner convolutions.
        lr: of Adam.
        matrix_lr: of Muon.
        batch: patches per step.
        patch: side of an LR patch.
        candidates: windows drawn for each patch, of which the most detailed one is taken.
    """

    build: Callable[[], nn.Module]
    optimizer: str = "muon"
    lr: float = 1e-3
    matrix_lr: float = 0.01
    batch: int = 8
    patch: int = 48
    candidates: int = 1


def plain(**config) -> HSPANLight:
    return light(attention_after=(), **config)


# What is compared with what: the first row; then how it is trained; its blocks and its size; and
# where attention sits, of which kind.
DESIGNS: dict[str, Variant] = {
    "48x14": Variant(plain),
    "48x14, Adam 1e-3": Variant(plain, "adam"),
    "48x14, Adam 2e-3": Variant(plain, "adam", lr=2e-3),
    "48x14, Muon 0.02": Variant(plain, matrix_lr=0.02),
    "48x14, Muon 0.005": Variant(plain, matrix_lr=0.005),
    "48x14, Muon 0.0025": Variant(plain, matrix_lr=0.0025),
    "48x14, batch 4, Muon 0.007": Variant(plain, batch=4, matrix_lr=0.007),
    "48x14, batch 16, patch 32": Variant(plain, batch=16, patch=32),
    "48x14, quiet start, Adam 1e-3": Variant(lambda: quiet(plain()), "adam"),
    "64x8": Variant(lambda: plain(channels=64, num_blocks=8)),
    "40x20": Variant(lambda: plain(channels=40, num_blocks=20)),
    "48x20": Variant(lambda: plain(num_blocks=20)),
    "48x9, gated blocks": Variant(lambda: exchanged(plain(num_blocks=9), lambda: GatedBlock(48))),
    "32x10, wide blocks": Variant(
        lambda: exchanged(plain(channels=32, num_blocks=10), lambda: WideBlock(32, 3))
    ),
    "48x14, HSPA, patch 4": Variant(light),
    "48x14, HSPA, patch 4, best of 2 windows": Variant(light, candidates=2),
    "48x14, HSPA, patch 4, best of 4 windows": Variant(light, candidates=4),
    "48x14, HSPA, patch 4, reduction 6": Variant(lambda: light(reduction=6)),
    "48x14, HSPA, patch 4, residual 1": Variant(lambda: light(residual_scale=1.0)),
    "48x14, 2 HSPA, patch 4": Variant(lambda: light(attention_after=(5, 10))),
    "48x14, HSPA, patch 2": Variant(lambda: light(patch=2)),
    "48x14, HSPA, patch 1": Variant(lambda: light(patch=1)),
    "48x14, softmax, patch 4": Variant(softmax),
}


def score(model: nn.Module, pairs) -> float:
    values = []
    for hr, lr in pairs:
        x = torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            sr = model(x.contiguous(memory_format=torch.channels_last))[0].float()
        sr = (sr.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        values.append(psnr(sr, hr, 2))
    return statistics.mean(values)


def train(name: str, args: argparse.Namespace, validation) -> dict:
    """Train for a budget of processor time, which a busy machine doesn't distort."""
    torch.manual_seed(args.seed)
    variant = DESIGNS[name]
    model = variant.build().to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(args.ema)
    )
    cache = build_cache(args.data, 2)
    data = PatchSampler(
        cache,
        batch_size=variant.batch,
        patch=variant.patch,
        seed=args.seed,
        candidates=variant.candidates,
    )
    if variant.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=variant.lr)
    else:
        named = model.named_parameters()
        optimizer = Muon(named, lr=variant.lr, matrix_lr=variant.matrix_lr)
    rates = [group["lr"] for group in optimizer.param_groups]
    started, wall, step, done = time.process_time(), time.time(), 0, 0.0
    while done < 1:
        lr, hr = (t.float().div_(255) for t in data.batch(step))
        factor = min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * done))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.l1_loss(model(lr).float(), hr)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        average.update_parameters(model)
        step += 1
        done = (time.process_time() - started) / args.seconds
    result = {
        "design": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "optimizer": variant.optimizer,
        "batch": variant.batch,
        "patch": variant.patch,
        "processor_seconds": args.seconds,
        "wall_seconds": time.time() - wall,
        "steps": step,
        **{k: score(average.module, pairs) for k, pairs in validation.items()},
    }
    print(json.dumps(result), flush=True)
    return result


def time_designs(names: list[str], runs: int, side: int) -> list[dict]:
    x = torch.rand(1, 3, side, side).contiguous(memory_format=torch.channels_last)
    models = {n: DESIGNS[n].build().eval().to(memory_format=torch.channels_last) for n in names}
    seconds: dict[str, list[float]] = {n: [] for n in models}
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for run in range(runs + 1):
            for name, model in models.items():
                started = time.perf_counter()
                model(x)
                if run:
                    seconds[name].append(time.perf_counter() - started)
    first = statistics.median(next(iter(seconds.values())))
    return [
        {
            "design": name,
            "parameters": sum(p.numel() for p in models[name].parameters()),
            "lr_side": side,
            "seconds": statistics.median(values),
            "ratio_to_first": statistics.median(values) / first,
        }
        for name, values in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "time"])
    parser.add_argument("--data")
    parser.add_argument("--validation", nargs="*", default=[])
    parser.add_argument("--designs", nargs="*", default=list(DESIGNS))
    parser.add_argument("--seconds", type=float, default=240, help="of processor time, each")
    parser.add_argument("--ema", type=float, default=0.98)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.what == "time":
        results = time_designs(args.designs, args.runs, args.side)
        for r in results:
            print(json.dumps(r))
        args.out.write_text(json.dumps(results, indent=1))
        return
    validation = {
        Path(f).name: [load_pair(p, 2) for p in find_pairs(f, 2)] for f in args.validation
    }
    results = []
    for name in args.designs:
        results.append(train(name, args, validation))
        args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

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
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.data import PatchSampler, build_cache, find_pairs, load_pair
from hspan.metrics import psnr
from hspan.models import HSPANLight, HSPANLightConfig
from hspan.modules import NLA


class ESABlock(nn.Module):
    """Three convolutions, a 1×1 convolution and enhanced spatial attention (as in RLFN)."""

    def __init__(self, channels: int, inner: int = 16) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(3))
        self.mix = nn.Conv2d(channels, channels, 1)
        self.squeeze = nn.Conv2d(channels, inner, 1)
        self.skip = nn.Conv2d(inner, inner, 1)
        self.stride = nn.Conv2d(inner, inner, 3, stride=2)
        self.deep = nn.Conv2d(inner, inner, 3, padding=1)
        self.expand = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for conv in self.convs:
            out = F.relu(conv(out))
        out = self.mix(out + x)
        inner = self.squeeze(out)
        wide = F.pad(inner, (0, 8, 0, 8), mode="replicate")
        context = self.deep(F.max_pool2d(self.stride(wide), 7, 3, padding=3))
        context = F.interpolate(context, size=out.shape[-2:], mode="bilinear", align_corners=False)
        return out * torch.sigmoid(self.expand(context + self.skip(inner)))


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


def esa(blocks: int, **config) -> HSPANLight:
    """The same network with ESA blocks in place of residual blocks."""
    model = light(num_blocks=blocks, **config)
    for i, block in enumerate(model.body):
        if type(block).__name__ == "ResidualBlock":
            model.body[i] = ESABlock(model.config.channels)
    return model


DESIGNS: dict[str, Callable[[], nn.Module]] = {
    "48x14, no attention": lambda: light(attention_after=()),
    "48x14, HSPA, patch 4": lambda: light(),
    "48x14, softmax, patch 4": lambda: softmax(),
    "48x14, HSPA, patch 4, residual 1": lambda: light(residual_scale=1.0),
    "48x14, HSPA, patch 2": lambda: light(patch=2),
    "48x14, HSPA, patch 2, residual 1": lambda: light(patch=2, residual_scale=1.0),
    "48x14, HSPA, patch 1": lambda: light(patch=1),
    "48x14, 3 HSPA, patch 4": lambda: light(attention_after=(4, 8, 12)),
    "64x8, HSPA, patch 4, residual 1": lambda: light(channels=64, num_blocks=8, residual_scale=1.0),
    "48x20, HSPA, patch 4": lambda: light(num_blocks=20),
    "48 ESA x6, HSPA, patch 4, residual 1": lambda: esa(6, residual_scale=1.0),
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
    model = DESIGNS[name]().to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(args.ema)
    )
    cache = build_cache(args.data, 2)
    data = PatchSampler(cache, batch_size=args.batch, patch=args.patch, seed=args.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    started, wall, step, done = time.process_time(), time.time(), 0, 0.0
    while done < 1:
        lr, hr = (t.float().div_(255) for t in data.batch(step))
        rate = args.lr * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
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
        "batch": args.batch,
        "patch": args.patch,
        "learning_rate": args.lr,
        "processor_seconds": args.seconds,
        "wall_seconds": time.time() - wall,
        "steps": step,
        **{k: score(average.module, pairs) for k, pairs in validation.items()},
    }
    print(json.dumps(result), flush=True)
    return result


def time_designs(names: list[str], runs: int, side: int) -> list[dict]:
    x = torch.rand(1, 3, side, side).contiguous(memory_format=torch.channels_last)
    models = {n: DESIGNS[n]().eval().to(memory_format=torch.channels_last) for n in names}
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
    parser.add_argument("--seconds", type=float, default=300, help="of processor time, each")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=48)
    parser.add_argument("--ema", type=float, default=0.99)
    parser.add_argument("--lr", type=float, default=1e-3)
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

"""Hard cases of the Triton kernels against float64; `attention_gpu.py` runs them before it times.

Scores are drawn so that float32 sums them exactly, in any order, and gradients of rows with an
element at the very edge of the support are left out: there the gradient jumps, and whether the
element counts is decided by kappa's last digit.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hspan.ops import hspa_attention, soft_threshold

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
TOLERANCES = {"bf16": 2e-2, "fp32": 2e-6}  # relative, of output and gradients
EDGE = 1e-6  # scores nearer than this to kappa make a row's gradient ambiguous


def dyadic(shape: tuple[int, ...], generator: torch.Generator, spread: float = 1.0) -> Tensor:
    """Multiples of 1/32 below 4: bf16 holds them, and float32 sums their products exactly."""
    numbers = torch.randn(shape, generator=generator) * spread
    return (numbers * 32).round().clamp(-127, 127) / 32


def hard_cases(
    n: int, generator: torch.Generator
) -> Iterator[tuple[str, tuple[Tensor, Tensor, Tensor], int | None]]:
    """Names, inputs in float32 for about n tokens, and topk.

    Most share their shapes, since every further one is compiled anew.
    """

    def draw(
        spread: float = 0.25, c: int = 32, d: int = 64, rows: int = n, keys: int = n + 3
    ) -> tuple[Tensor, Tensor, Tensor]:
        value = torch.randn(1, keys, d, generator=generator).bfloat16().float()
        return dyadic((1, rows, c), generator, spread), dyadic((1, keys, c), generator), value

    yield "sparse rows", draw(1.0), None
    yield "hundreds of keys a row", draw(0.0625), None
    constant = draw()
    constant[0][:, ::2] = 0
    yield "constant rows", constant, None
    tied = draw()
    tied[1][:, n // 8 : n - 3] = tied[1][:, :1]
    yield "tied keys", tied, None
    yield "tied keys, top 16", tied, 16
    outlier = draw()
    outlier[1][:, 7] *= 32
    yield "an outlier key", outlier, None
    large = draw()
    large[0].mul_(8192)
    yield "logits times 8192", large, None
    yield "top 16", draw(), 16
    yield "top 700, past the buffer", draw(0.0625), min(700, n // 2)
    yield "96 and 192 channels", draw(0.5, 96, 192), None
    yield "one channel, few keys", draw(1.0, 1, 1, keys=n // 3), None
    yield "512 channels", draw(0.0625, 512, 512, rows=n // 8, keys=n // 4 + 1), None
    few = [draw(0.25, 24, 48, rows=n // 4 + 1, keys=n // 2) for _ in range(2)]
    query, key, value = (torch.cat(parts) for parts in zip(*few, strict=True))
    yield "two images, M ≠ N", (query, key, value), None
    yield "one token", draw(1.0, rows=1, keys=1), None


def exact_attention(
    query: Tensor, key: Tensor, value: Tensor, topk: int | None
) -> tuple[Tensor, Tensor]:
    """Eq. (8) written out; the first of keys that tie at the k-th place count.

    Returns:
        The output, and which rows' gradients are unambiguous [B, N, 1].
    """
    scores = query @ key.transpose(1, 2)
    if topk is not None and topk < scores.shape[2]:
        kept = scores.argsort(dim=-1, descending=True, stable=True)[..., :topk]
        others = torch.ones_like(scores, dtype=torch.bool).scatter_(-1, kept, False)
        scores = scores.masked_fill(others, -torch.inf)
    weights = soft_threshold(scores)
    kappa = (scores - weights).masked_fill(weights == 0, -torch.inf).amax(-1, keepdim=True)
    clear = ((scores - kappa).abs() > EDGE).all(-1, keepdim=True)
    return weights @ value, clear


def check(device: str, n: int) -> list[dict[str, Any]]:
    """Compare output and gradients, case by case; print and return the relative errors."""
    generator = torch.Generator().manual_seed(0)
    report: list[dict[str, Any]] = []
    for name, tensors, topk in hard_cases(n, generator):
        leaves = [t.double().to(device).requires_grad_() for t in tensors]
        out, clear = exact_attention(*leaves, topk)
        grad = torch.randn(out.shape, generator=generator).bfloat16().to(out) * clear
        truth = [out.detach(), *torch.autograd.grad(out, leaves, grad)]
        for kind, dtype in DTYPES.items():
            if kind == "bf16" and name.startswith("logits"):
                continue  # products beyond the digits of bf16
            inputs = [t.to(device, dtype).requires_grad_() for t in tensors]
            out = hspa_attention(*inputs, topk=topk, backend="triton")
            ours = [out.detach(), *torch.autograd.grad(out, inputs, grad.to(dtype))]
            # A gradient may vanish, as that of a single token's query: then absolute.
            errors = [
                float((a.double() - b).norm()) / max(float(b.norm()), 1.0)
                for a, b in zip(ours, truth, strict=True)
            ]
            passed = all(error <= TOLERANCES[kind] for error in errors)  # NaN fails
            report.append({"case": name, "dtype": kind, "errors": errors, "passed": passed})
            _say(report[-1])
    report.append(_check_undefined(device, n, generator))
    _say(report[-1])
    return report


def _check_undefined(device: str, n: int, generator: torch.Generator) -> dict[str, Any]:
    query, key = (dyadic((2, n, 8), generator).to(device) for _ in range(2))
    value = torch.randn(2, n, 8, generator=generator).to(device)
    before = hspa_attention(query, key, value, backend="triton")
    query[1, 3], query[0, 5] = math.nan, math.inf
    after = hspa_attention(query, key, value, backend="triton")
    undefined = torch.zeros(2, n, dtype=torch.bool, device=device)
    undefined[1, 3] = undefined[0, 5] = True
    alone = after[undefined].isnan().all() and torch.equal(after[~undefined], before[~undefined])
    return {"case": "NaN and infinite queries are NaN alone", "errors": [], "passed": bool(alone)}


def _say(entry: dict[str, Any]) -> None:
    errors = " ".join(f"{error:.1e}" for error in entry["errors"])
    verdict = "ok  " if entry["passed"] else "FAIL"
    print(verdict, entry["case"], entry.get("dtype", ""), errors, flush=True)

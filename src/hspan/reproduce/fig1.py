"""Fig. 1: softmax and soft thresholding of normal numbers, and the statistics of Eq. (14).

Fig. 1    both turn n scores from N(0, 1) into weights; softmax's flatten as n grows
Eq. (14)  P(T > k) ≤ P(s₍k₎ − s₍k+1₎ < 1/k): T the support size, s₍k₎ the k-th largest score

Nothing is trained and no image is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hspan.errors import UsageError
from hspan.ops import soft_threshold
from hspan.reproduce._blocks import Cell, Picture, Table, Text, cells, count, number
from hspan.reproduce._figures import BLUE, GREY, RED, drawing, light_grid, save_picture
from hspan.reproduce._job import Job
from hspan.reproduce._report import Report

_CHUNK = 2**22  # numbers drawn at once: 16 MiB


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Fig. 1.

    Attributes:
        seeds: of the draws; each adds ``draws`` vectors.
        sides: n is the square of each, as in the paper (n = 4² to 20²).
        shown: sides of which one vector's weights are drawn.
        draws: vectors for each n and seed.
        chance_sides: n of Eq. (14), the square of each.
        chance_ranks: k of Eq. (14).
        chance_draws: vectors for each n of Eq. (14) and seed.
    """

    seeds: tuple[int, ...]
    sides: tuple[int, ...]
    shown: tuple[int, ...]
    draws: int
    chance_sides: tuple[int, ...]
    chance_ranks: tuple[int, ...]
    chance_draws: int


@dataclass(frozen=True)
class Spread:
    """Of one n: means and standard deviations over vectors, for softmax and for ST."""

    n: int
    largest: tuple[tuple[float, float], tuple[float, float]]
    entropy: tuple[tuple[float, float], tuple[float, float]]  # nats
    support: tuple[tuple[float, float], tuple[float, float]]  # weights above zero


@dataclass(frozen=True)
class Chance:
    """Of one n and k: both sides of Eq. (14), as shares of the vectors drawn."""

    n: int
    k: int
    above: float  # P(T > k)
    bound: float  # P(s(k) - s(k+1) < 1/k)
    broken: int  # vectors with T > k and a gap of 1/k or more; there can be none


def run(job: Job) -> Report:
    """Draw, weigh, count."""
    s = job.settings(Settings)
    for key, sides in (("sides", s.sides), ("shown", s.shown), ("chance_sides", s.chance_sides)):
        if not sides or min(sides) < 2:
            raise UsageError(f"fig1: {key} must be at least one number, of 2 or more each")
    if not s.chance_ranks or min(s.chance_ranks) != 1:  # every n has more than one score
        raise UsageError("fig1: chance_ranks count from 1 and must hold it")
    if min(s.draws, s.chance_draws) < 1:
        raise UsageError("fig1 needs at least one draw")
    job.say(f"fig1: n up to {max(s.sides) ** 2:,}")
    spreads = [_spread(side**2, s.draws, s.seeds) for side in s.sides]
    chances = [c for side in s.chance_sides for c in _chances(side**2, s)]
    return Report(
        title="Fig. 1: softmax and soft thresholding of N(0, 1) scores",
        settings=s,
        blocks=(
            Text(_finding(spreads)),
            _draw_weights(job, s),
            _draw_spreads(job, spreads),
            _spread_table(spreads),
            Text(_chance_finding(chances)),
            _draw_chances(job, chances),
            _chance_table(chances),
        ),
        results={
            "weights": [vars(each) for each in spreads],
            "equation_14": [vars(each) for each in chances],
        },
    )


def _vectors(n: int, draws: int, seeds: Sequence[int]) -> list[Tensor]:
    """Scores [rows, n] in parts that fit into memory; the same for the same n and seed."""
    parts: list[Tensor] = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + n)
        left = draws
        while left:
            rows = min(left, max(1, _CHUNK // n))
            parts.append(torch.randn(rows, n, generator=generator))
            left -= rows
    return parts


def _spread(n: int, draws: int, seeds: Sequence[int]) -> Spread:
    rows: list[Tensor] = []
    for scores in _vectors(n, draws, seeds):
        for weights in (scores.softmax(-1), soft_threshold(scores)):
            entropy = -torch.xlogy(weights, weights).sum(-1)
            rows.append(torch.stack([weights.amax(-1), entropy, (weights > 0).sum(-1).float()]))
    softmax, st = torch.cat(rows[0::2], 1).double(), torch.cat(rows[1::2], 1).double()

    def both(quantity: int) -> tuple[tuple[float, float], tuple[float, float]]:
        first, second = (
            (float(x[quantity].mean()), float(x[quantity].std(correction=0))) for x in (softmax, st)
        )
        return first, second

    return Spread(n, both(0), both(1), both(2))


def _chances(n: int, s: Settings) -> list[Chance]:
    ranks = torch.tensor([k for k in s.chance_ranks if k < n])
    above = torch.zeros(len(ranks))
    near = torch.zeros(len(ranks))
    broken = torch.zeros(len(ranks))
    total = 0
    for scores in _vectors(n, s.chance_draws, s.seeds):
        support = (soft_threshold(scores) > 0).sum(-1, keepdim=True)  # [rows, 1]
        largest = scores.double().topk(int(ranks.max()) + 1, dim=-1).values
        gap = largest[:, ranks - 1] - largest[:, ranks]  # [rows, ranks]
        more, close = support > ranks, gap < 1 / ranks
        above += more.sum(0)
        near += close.sum(0)
        broken += (more & ~close).sum(0)
        total += scores.shape[0]
    return [
        Chance(n, int(k), float(above[i]) / total, float(near[i]) / total, int(broken[i]))
        for i, k in enumerate(ranks)
    ]


def _finding(spreads: Sequence[Spread]) -> str:
    first, last = spreads[0], spreads[-1]
    return (
        f"Softmax gives every score a positive weight. From n = {first.n:,} to n = {last.n:,} its "
        f"largest weight falls from {first.largest[0][0]:.3f} to {last.largest[0][0]:.4f}, and its "
        f"entropy comes to {last.entropy[0][0] / math.log(last.n):.0%} of that of equal weights. "
        "With soft thresholding a few of the largest scores share everything, whatever n is: "
        f"{first.support[1][0]:.1f} of {first.n:,} at first, {last.support[1][0]:.1f} of "
        f"{last.n:,} at last, and the largest weight goes from {first.largest[1][0]:.2f} to "
        f"{last.largest[1][0]:.2f}. The published figure shows n = 4² to 20²."
    )


def _chance_finding(chances: Sequence[Chance]) -> str:
    vectors = "no vector breaks it" if not any(c.broken for c in chances) else "it is broken"
    n = max(c.n for c in chances)
    of_n = [c for c in chances if c.n == n]
    first, last = of_n[0], of_n[-1]
    return (
        "Eq. (14): support beyond k requires the gap between the k-th and the next score to be "
        f"below 1/k. Among all vectors drawn, {vectors}. How tight it is is another matter. For "
        f"n = {n:,}, P(T > k) falls from {first.above:.2g} at k = {first.k} to {last.above:.2g} at "
        f"k = {last.k}, while the bound goes from {first.bound:.2g} to {last.bound:.2g}: gaps of "
        "sorted normal numbers shrink like 1/k themselves, so that the bound alone doesn't show "
        "that large supports are improbable. The simulation of T does."
    )


def _spread_table(spreads: Sequence[Spread]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for each in spreads:
        rows.append(
            cells(
                count(each.n),
                _pm(each.largest[0], 4),
                _pm(each.largest[1], 4),
                _pm(each.entropy[0], 3),
                _pm(each.entropy[1], 3),
                number(math.log(each.n), 3),
                count(each.n),
                _pm(each.support[1], 2),
            )
        )
    header = (
        "n",
        "largest, softmax",
        "largest, ST",
        "entropy, softmax",
        "entropy, ST",
        "ln n",
        "support, softmax",
        "support, ST",
    )
    caption = "Mean ± standard deviation over vectors; entropy in nats, ln n that of equal weights"
    return Table("fig1", caption, header, tuple(rows))


def _chance_table(chances: Sequence[Chance]) -> Table:
    rows = [
        cells(count(c.n), count(c.k), number(c.above, 5), number(c.bound, 5), count(c.broken))
        for c in chances
    ]
    header = ("n", "k", "P(T > k)", "P(s(k) − s(k+1) < 1/k)", "vectors that break Eq. (14)")
    return Table("fig1_equation14", "Eq. (14), simulated", header, tuple(rows))


def _pm(pair: tuple[float, float], digits: int) -> Cell:
    return Cell(f"{pair[0]:.{digits}f} ± {pair[1]:.{digits}f}", pair[0])


def _draw_weights(job: Job, s: Settings) -> Picture:
    with drawing(2.6) as figure:
        grid = figure.subplots(2, len(s.shown), sharex="col", squeeze=False)
        for column, side in enumerate(s.shown):
            scores = _vectors(side**2, 1, s.seeds[:1])[0]
            both = (scores.softmax(-1)[0], BLUE), (soft_threshold(scores)[0], RED)
            for row, (weights, colour) in enumerate(both):
                axes = grid[row][column]
                axes.vlines(range(side**2), 0, weights.tolist(), color=colour, linewidth=0.9)
                axes.set_ylim(0, 1)
                axes.set_xlim(-1, side**2)
                if column:
                    axes.tick_params(labelleft=False)
            grid[0][column].set_title(f"n = {side}² = {side**2}")
            grid[1][column].set_xlabel("index of the score")
        grid[0][0].set_ylabel("softmax weight")
        grid[1][0].set_ylabel("ST weight")
        return save_picture(
            figure,
            job.folder,
            "fig1",
            "Fig. 1: weights of the same N(0, 1) scores under softmax (top) and soft thresholding "
            "(bottom), one vector for each n.",
        )


def _draw_spreads(job: Job, spreads: Sequence[Spread]) -> Picture:
    n = [each.n for each in spreads]
    with drawing(2.3) as figure:
        quantities = (
            ("largest", "largest weight"),
            ("entropy", "entropy (nats)"),
            ("support", "support size"),
        )
        for axes, (quantity, label) in zip(figure.subplots(1, 3), quantities, strict=True):
            for which, (name, colour) in enumerate((("softmax", BLUE), ("ST", RED))):
                means = [getattr(each, quantity)[which][0] for each in spreads]
                widths = [getattr(each, quantity)[which][1] for each in spreads]
                low = [max(m - w, 1e-5) for m, w in zip(means, widths, strict=True)]
                high = [m + w for m, w in zip(means, widths, strict=True)]
                axes.fill_between(n, low, high, color=colour, alpha=0.18, linewidth=0)
                axes.plot(n, means, "-", color=colour, marker="os"[which], ms=3, label=name)
            if quantity == "entropy":
                axes.plot(n, [math.log(x) for x in n], ":", color=GREY, label="ln n")
            else:
                axes.set_yscale("log")
            axes.set_xscale("log")
            axes.set_xlabel("n")
            axes.set_ylabel(label)
            light_grid(axes)
            axes.legend()
        return save_picture(
            figure,
            job.folder,
            "fig1_statistics",
            "Largest weight, entropy and support size against n: mean over vectors, bands of one "
            "standard deviation.",
        )


def _draw_chances(job: Job, chances: Sequence[Chance]) -> Picture:
    with drawing(2.5, width=4.6) as figure:
        axes = figure.subplots()
        sizes = sorted({c.n for c in chances})
        for n, colour in zip(sizes, (BLUE, RED, GREY, "black"), strict=False):
            of_n = [c for c in chances if c.n == n]
            k = [c.k for c in of_n]
            seen = [(c.k, c.above) for c in of_n if c.above]
            axes.plot([x for x, _ in seen], [y for _, y in seen], "-o", ms=3, color=colour)
            axes.plot(k, [c.bound for c in of_n], "--", color=colour, linewidth=1)
        axes.set_yscale("log")
        axes.set_xlabel("k")
        axes.set_ylabel("probability")
        from matplotlib.lines import Line2D

        handles = [
            Line2D([], [], color=colour, label=f"n = {n:,}")
            for n, colour in zip(sizes, (BLUE, RED, GREY, "black"), strict=False)
        ]
        handles.append(Line2D([], [], color="black", marker="o", ms=3, label="P(T > k)"))
        handles.append(Line2D([], [], color="black", linestyle="--", label="its bound, Eq. (14)"))
        figure.legend(handles=handles, loc="outside right center")
        light_grid(axes)
        return save_picture(
            figure,
            job.folder,
            "fig1_equation14",
            "Eq. (14) by simulation: the probability of a support beyond k, and its bound.",
        )

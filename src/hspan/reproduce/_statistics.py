"""Means, spreads and paired differences over seeds, and what may be said from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean, stdev

from hspan.reproduce._blocks import Cell


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation over seeds; None for a single one."""
    return stdev(values) if len(values) > 1 else None


def mean_and_spread(values: Sequence[float], digits: int = 2, *, sign: bool = False) -> Cell:
    """``37.53 ± 0.04``."""
    mean, width = fmean(values), spread(values)
    text = f"{mean:{'+' if sign else ''}.{digits}f}"
    return Cell(text if width is None else f"{text} ± {width:.{digits}f}", mean)


def paired(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """First less second, seed by seed: equal seeds saw equal patches."""
    return [a - b for a, b in zip(first, second, strict=True)]


def order_sentence(scores: Mapping[str, Sequence[float]], published: Sequence[str]) -> str:
    """How the measured order of variants stands to the published one.

    Args:
        scores: over seeds, by title.
        published: titles from the lowest published score to the highest; others have no order.

    Returns:
        Nothing for fewer than two titles.
    """
    if len(published) < 2:
        return ""
    ranked = sorted(published, key=lambda title: fmean(scores[title]))
    said = " < ".join(ranked)
    if ranked == list(published):
        verdict = "which is the published order"
    else:
        verdict = f"while the published order is {' < '.join(published)}"
    unsure = [
        f"{below} and {above}"
        for below, above in pairwise(ranked)
        if not _apart(scores[below], scores[above])
    ]
    seeds = len(scores[ranked[0]])
    if seeds < 2:
        doubt = " One seed says nothing about which of these differences would come again."
    elif unsure:
        doubt = (
            f" Over {seeds} seeds, paired differences don't stand clear of their spread for "
            f"{'; '.join(unsure)}."
        )
    else:
        doubt = (
            f" Every paired difference between neighbours has one sign for all {seeds} seeds and "
            "is larger than its standard deviation."
        )
    return f"Measured order: {said}, {verdict}.{doubt}"


def _apart(below: Sequence[float], above: Sequence[float]) -> bool:
    """Whether all seeds agree on the order, by more than they differ among themselves."""
    differences = paired(above, below)
    width = spread(differences)
    return width is not None and min(differences) > 0 and fmean(differences) > width

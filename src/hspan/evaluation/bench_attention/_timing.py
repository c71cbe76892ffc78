"""Times of several things that alternate in one process, so that a slow moment hits all alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

LEAST = 3  # repetitions: a median of fewer is no median
MOST = 50


@dataclass(frozen=True)
class Timing:
    """Seconds of one run.

    Attributes:
        median: of all runs that were counted.
        best: the shortest.
        repetitions: how many were counted.
    """

    median: float
    best: float
    repetitions: int


def plan_repetitions(estimates: Mapping[str, float], budget: float) -> dict[str, int]:
    """Say how often each thing runs: every one gets an equal share of the time.

    Args:
        estimates: seconds of one run of each.
        budget: seconds for all; overrun where ``LEAST`` runs take longer.
    """
    share = budget / max(1, len(estimates))
    return {
        name: min(MOST, max(LEAST, int(share / max(seconds, 1e-9))))
        for name, seconds in estimates.items()
    }


def alternate(
    runs: Mapping[str, Callable[[], object]],
    repetitions: Mapping[str, int],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Run everything in rounds and time each run.

    The thing with the most repetitions runs in every round, the others in rounds spread evenly
    over all; every round starts with another one.

    Args:
        runs: what to run, warmed up already.
        repetitions: how often, at least once.
        clock: returns seconds.
    """
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    rounds = max(repetitions.values(), default=0)
    for i in range(rounds):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            count = repetitions[name]
            if (i + 1) * count // rounds == i * count // rounds:
                continue
            start = clock()
            runs[name]()
            seconds[name].append(clock() - start)
    return {
        name: Timing(statistics.median(taken), min(taken), len(taken))
        for name, taken in seconds.items()
    }

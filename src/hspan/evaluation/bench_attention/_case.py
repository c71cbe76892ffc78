"""Measures all methods on one input: warm-up, alternating times, errors, memory."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hspan.errors import InputError
from hspan.evaluation.bench_attention._features import Features
from hspan.evaluation.bench_attention._memory import peak_memory
from hspan.evaluation.bench_attention._methods import (
    OURS,
    RELEASED_TILE,
    Direction,
    Method,
)
from hspan.evaluation.bench_attention._report import Result
from hspan.evaluation.bench_attention._timing import LEAST, Timing, alternate, plan_repetitions
from hspan.evaluation.bench_attention._workload import Workload
from hspan.hardware import available_ram
from hspan.ops import soft_threshold

ERROR_ROWS = 256  # queries whose outputs are compared with float64

_MEMORY_SHARE = 0.8  # of the free main memory that dense matrices may take
# Fewer queries say little about all: of SDPA's gradients, 256 of 9,216 cost 13 % too much each.
_LEAST_ROWS = 1024
_GROWTH = 4  # from one trial to the next
_LEAST_LIMIT = 10.0  # seconds that the one run for memory may always take
_PATIENCE = 10.0  # shares of the budget that one run of ours, never extrapolated, may take

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Trial:
    """A method that has been warmed up: the part of the input that it can do in its time."""

    work: Workload
    seconds: float  # of one run
    whole: float  # of one run over all queries, estimated
    tile: int | None
    relative_error: float | None


def measure_case(
    methods: Mapping[str, Method],
    features: Features,
    direction: Direction,
    *,
    budget: float,
    threads: int,
    memory: bool,
    say: Say = lambda line: None,
) -> tuple[Result, ...]:
    """Measure methods on one input.

    Args:
        methods: by name; ours among them.
        features: the input.
        direction: what is computed.
        budget: seconds for all times together.
        threads: of the fresh processes that memory is measured in.
        memory: measure it.
        say: told what happens next, in a few words.
    """
    results = {name: Result(method=name, title=method.title) for name, method in methods.items()}
    trials: dict[str, _Trial] = {}
    reasons = {name: _why_not(method, direction) for name, method in methods.items()}
    share = budget / max(1, sum(reason is None for reason in reasons.values()))
    for name, method in methods.items():
        reason = reasons[name]
        if reason is None:
            say(f"{method.title}: warm-up")
            outcome = _try(name, method, features, direction, share)
            if isinstance(outcome, _Trial):
                trials[name] = outcome
                continue
            reason = outcome
        results[name] = replace(
            results[name], skipped=reason, memory_skipped=reason if memory else None
        )
    say("alternating")
    plan = plan_repetitions({name: trial.seconds for name, trial in trials.items()}, budget)
    times = alternate({name: trial.work.run for name, trial in trials.items()}, plan)
    tokens = features.query.shape[1]
    for name, trial in trials.items():
        results[name] = _timed(results[name], trial, times[name], tokens)
    if memory:
        for name, trial in trials.items():
            say(f"{methods[name].title}: memory")
            limit = max(_LEAST_LIMIT, LEAST * share)
            results[name] = _weighed(
                results[name], methods[name], trial, features, direction, threads, limit
            )
    return with_ratios(tuple(results.values()))


def with_ratios(results: tuple[Result, ...]) -> tuple[Result, ...]:
    """Set every time beside that of ours."""
    ours = next((r.milliseconds for r in results if r.method == OURS), None)
    if ours is None:
        return results
    return tuple(
        r if r.milliseconds is None else replace(r, ratio=r.milliseconds / ours) for r in results
    )


def _why_not(method: Method, direction: Direction) -> str | None:
    if direction != "forward" and not method.backward:
        return "has no backward"
    return method.why_not()


def _try(
    name: str, method: Method, features: Features, direction: Direction, share: float
) -> _Trial | str:
    """Warm a method up on more and more queries, as far as ``LEAST`` runs fit its share."""
    tokens = features.query.shape[1]
    room = _MEMORY_SHARE * available_ram()
    fits = method.matrix_bytes(tokens, tokens, direction) <= room
    tile = None if fits else RELEASED_TILE
    most = share / LEAST  # seconds of one run
    enough = _PATIENCE * share if name == OURS else most  # for a run over all queries
    rows = min(_LEAST_ROWS, tokens)
    try:
        seconds = _once(Workload(method, features, direction, rows, tile))[0]
        while True:
            work = Workload(method, features, direction, rows, tile)
            # The best of two runs: the first may have loaded libraries, or met a busy machine.
            again, outputs = _once(work)
            seconds = min(seconds, again)
            whole = seconds * tokens / rows
            if rows < tokens and whole <= enough:
                rows = tokens
            elif rows < tokens and seconds * _GROWTH <= most:
                rows = min(tokens, rows * _GROWTH)
            else:
                break
            seconds = math.inf
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return f"not enough memory for {rows} queries"
    if rows < tokens and (name == OURS or seconds > most):
        return f"one run would take about {whole:.0f} s, too long for the budget"
    error = _relative_error(features, work, outputs) if method.exact else None
    return _Trial(work, seconds, whole, tile, error)


def _once(work: Workload) -> tuple[float, list[Tensor]]:
    """Seconds of one run, and its outputs."""
    start = time.perf_counter()
    outputs = work.run()
    return time.perf_counter() - start, outputs


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "allocate memory" in str(error)


def _relative_error(features: Features, work: Workload, outputs: list[Tensor]) -> float:
    """Of an evenly spread subset of the outputs, against Eq. (8) in float64."""
    count = min(ERROR_ROWS, work.rows)
    places = torch.arange(count) * work.rows // count
    query, key, value = (
        part.double() for part in (features.query[0], features.key[0], features.value[0])
    )
    weights = soft_threshold(query[work.indices[places]] @ key.T)
    expected = weights @ value
    output = torch.cat(outputs, dim=1)[0, places].detach().double()  # kept for a backward pass
    return float((output - expected).norm() / expected.norm())


def _timed(result: Result, trial: _Trial, timing: Timing, tokens: int) -> Result:
    growth = tokens / trial.work.rows
    return replace(
        result,
        milliseconds=timing.median * growth * 1e3,
        best_milliseconds=timing.best * growth * 1e3,
        repetitions=timing.repetitions,
        rows=trial.work.rows,
        extrapolated=trial.work.rows < tokens,
        tile=trial.tile,
        relative_error=trial.relative_error,
    )


def _weighed(
    result: Result,
    method: Method,
    trial: _Trial,
    features: Features,
    direction: Direction,
    threads: int,
    limit: float,
) -> Result:
    tokens = features.query.shape[1]
    needed = method.matrix_bytes(tokens, tokens, direction)
    if trial.tile is not None:
        gib = 2**30
        reason = f"its matrices take {needed / gib:.0f} GiB of {available_ram() / gib:.0f} GiB free"
        return replace(result, memory_skipped=reason)
    if trial.whole > limit:
        reason = f"one run over all queries would take about {trial.whole:.0f} s"
        return replace(result, memory_skipped=reason)
    try:
        held = peak_memory(result.method, features, direction, threads)
    except InputError as error:
        return replace(result, memory_skipped=str(error))
    return replace(result, extra_mib=held / 2**20)

"""Runs the cases of some settings and says on what they ran."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import torch

from hspan.errors import InputError
from hspan.evaluation.bench_attention._case import ERROR_ROWS, measure_case
from hspan.evaluation.bench_attention._features import Features, check_image, draw_features
from hspan.evaluation.bench_attention._machine import (
    describe_commit,
    describe_kernel,
    describe_machine,
    describe_versions,
    now,
)
from hspan.evaluation.bench_attention._methods import RELEASED_TILE, Direction, choose_methods
from hspan.evaluation.bench_attention._report import AttentionReport, Case
from hspan.evaluation.bench_attention._settings import Settings

PROTOCOL = (
    "batch 1, one head, no 1/√d, float32 inputs; bf16 methods get theirs converted beforehand",
    "softmax gets query and key padded with zeros to the value's width beforehand: torch's fused "
    "kernels want one width, and are faster so",
    "all methods alternate in one process, every round beginning with another one, after a "
    "warm-up each; medians; ratios are medians over the median of ours in the same rounds",
    "extrapolated: only so many queries, spread evenly over all, against all keys; times are "
    "multiplied by the ratio of queries",
    f"the released program where memory doesn't hold its N×N matrices: {RELEASED_TILE} queries at "
    "a time, everything else as it is",
    "memory: the most that a fresh process held during its first full run, less what it held just "
    "before; output included, inputs not",
    "bare product and scan: all scores tile by tile and every row's maximum, a floor for methods "
    "that look at every pair",
    f"relative error: of {ERROR_ROWS} queries spread evenly, against float64, Frobenius norm",
)

Say = Callable[[str], None]


def bench_attention(
    settings: Sequence[Settings],
    *,
    say: Say = lambda line: None,
    on_case: Callable[[Case], None] = lambda case: None,
    on_report: Callable[[AttentionReport], None] = lambda report: None,
) -> AttentionReport:
    """Measure attention.

    Args:
        settings: one or more; the budget is each one's own, the threads reported the first's.
        say: told what happens next, in a few words.
        on_case: given every case as soon as it is measured.
        on_report: given the report so far after every case, to be saved: all settings together
            take up to an hour, and may be interrupted.

    Raises:
        InputError: a named photograph can't be read.
        UsageError: HSPAN_ISA names an instruction set that can't be used here.
    """
    for one in settings:
        check_image(one.image)
    with torch_threads(settings[0].threads if settings else None):
        machine = {**describe_machine(), **describe_kernel()}
    report = AttentionReport(
        date=now(),
        commit=describe_commit(),
        machine=machine,
        versions=describe_versions(),
        settings=tuple(_plain(one) for one in settings),
        protocol=PROTOCOL,
    )
    for one in settings:
        with torch_threads(one.threads):
            for case in _cases(one, say):
                report = replace(report, cases=(*report.cases, case))
                on_case(case)
                on_report(report)
    return report


def _cases(settings: Settings, say: Say) -> Iterator[Case]:
    methods = choose_methods(settings.methods)
    weights = {
        (n, d): n * (3 if d == "forward+backward" else 1)
        for n in settings.tokens
        for d in settings.directions
    }
    for tokens in settings.tokens:
        say(f"N = {tokens:,}: {settings.features} features")
        try:
            features = draw_features(
                settings.features,
                tokens,
                channels=settings.channels,
                support=settings.support,
                image=settings.image,
                seed=settings.seed,
            )
        except InputError as error:
            for direction in settings.directions:
                yield _case(settings, tokens, direction, str(error))
            continue
        for direction in settings.directions:
            case = _case(settings, tokens, direction, features)
            share = weights[tokens, direction] / sum(weights.values())
            results = measure_case(
                methods,
                features,
                direction,
                budget=settings.budget * share,
                threads=torch.get_num_threads(),
                memory=settings.memory,
                say=lambda line, n=tokens, d=direction: say(f"N = {n:,}, {d}: {line}"),
            )
            yield replace(case, results=results)


def _case(settings: Settings, tokens: int, direction: Direction, features: Features | str) -> Case:
    own = settings.features == "network"
    named = Case(
        tokens=tokens,
        features=settings.features,
        direction=direction,
        target_support=None if own else settings.support,
    )
    if isinstance(features, str):
        return replace(named, skipped=features)
    return replace(
        named,
        query_channels=features.query.shape[2],
        value_channels=features.value.shape[2],
        support=features.support,
        support_queries=features.support_queries,
        scale=features.scale,
        source=features.source,
        error_rows=min(ERROR_ROWS, tokens),
    )


def _plain(settings: Settings) -> dict[str, Any]:
    image = settings.image
    return {**asdict(settings), "image": None if image is None else image.name}


@contextmanager
def torch_threads(count: int | None) -> Generator[None]:
    """Let torch use so many threads; None leaves them as they are."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Runs networks in turn and says on what they ran."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

import torch

from hspan.errors import HspanError, InputError, UsageError, WeightsError
from hspan.evaluation._multiply_adds import MultiplyAdds, count_multiply_adds
from hspan.evaluation.bench_attention._machine import (
    describe_commit,
    describe_kernel,
    describe_machine,
    describe_versions,
    now,
)
from hspan.evaluation.bench_attention._run import torch_threads
from hspan.evaluation.bench_attention._timing import LEAST, alternate, plan_repetitions
from hspan.evaluation.bench_models._competitor import Competitor
from hspan.evaluation.bench_models._memory import peak_memory, peak_on_gpu
from hspan.evaluation.bench_models._report import ModelCase, ModelResult, ModelsReport
from hspan.evaluation.bench_models._settings import ModelSettings
from hspan.hardware import choose_device

PROTOCOL = (
    "one image of random pixels at a time; networks in eval mode; with random weights, attention "
    "is as sparse as it happens to be: give checkpoints for the time of trained networks",
    "all networks alternate in one process, every round beginning with another one, after a "
    "warm-up each; medians; ratios are medians over the median of the first network",
    f"a network is left out where {LEAST} runs, estimated by its multiply-adds from a run on "
    "16×16 pixels, take longer than its share of the budget",
    "multiply-adds: convolutions, linear layers and matrix products; attention of N queries and M "
    "keys counts as N·M, however little of that is computed",
    "memory: the most held during one run, less what was held just before; in fresh processes on "
    "the processor, by the allocator's count on a GPU; output included, weights and input not",
)

_SMALL = 16  # pixels per side of the image that estimates begin with

Say = Callable[[str], None]


def bench_models(
    settings: ModelSettings,
    *,
    say: Say = lambda line: None,
    on_case: Callable[[ModelCase], None] = lambda case: None,
) -> ModelsReport:
    """Measure networks.

    Args:
        settings: what to measure.
        say: told what happens next, in a few words.
        on_case: given every case as soon as it is measured.

    Raises:
        UsageError: there is no such device.
    """
    device = choose_device(settings.device)
    date = now()
    cases: list[ModelCase] = []
    with torch_threads(settings.threads):
        machine = {**describe_machine(), **describe_kernel(), "device": _device_name(device)}
        competitors: dict[str, Competitor] = {}
        results: dict[str, ModelResult] = {}
        for model in settings.models:
            say(f"{model}: built")
            results[model] = ModelResult(model=model, network=model)
            try:
                competitors[model] = Competitor(model, settings, device)
            except (UsageError, WeightsError, InputError) as error:
                results[model] = replace(results[model], skipped=str(error))
        for height, width in settings.sizes:
            case = _measure(settings, competitors, results, height, width, device, say)
            cases.append(case)
            on_case(case)
    return ModelsReport(
        date=date,
        commit=describe_commit(),
        machine=machine,
        versions=describe_versions(),
        settings=asdict(settings),
        protocol=PROTOCOL,
        cases=tuple(cases),
    )


def _measure(
    settings: ModelSettings,
    competitors: Mapping[str, Competitor],
    unmeasured: Mapping[str, ModelResult],
    height: int,
    width: int,
    device: torch.device,
    say: Say,
) -> ModelCase:
    results = dict(unmeasured)
    budget = settings.budget / len(settings.sizes)
    share = budget / max(1, len(competitors))
    runs: dict[str, Callable[[], object]] = {}
    estimates: dict[str, float] = {}
    for model, competitor in competitors.items():
        say(f"{height}×{width}, {model}: warm-up")
        counted = _counted(competitor, height, width)
        results[model] = replace(
            results[model],
            network=competitor.name,
            weights=competitor.weights,
            parameters=competitor.parameters(),
            multiply_adds=counted,
        )
        expected = _expected(competitor, height, width, counted)
        if LEAST * expected > share:
            reason = f"a run takes about {expected:.2g} s: more than its share of the budget"
            results[model] = replace(
                results[model], skipped=reason, memory_skipped=reason if settings.memory else None
            )
            continue
        runs[model] = competitor.on(height, width)
        estimates[model] = min(_once(runs[model]), _once(runs[model]))
    say(f"{height}×{width}: alternating")
    times = alternate(runs, plan_repetitions(estimates, budget))
    for model, timing in times.items():
        results[model] = replace(
            results[model],
            milliseconds=timing.median * 1e3,
            best_milliseconds=timing.best * 1e3,
            repetitions=timing.repetitions,
        )
        if settings.memory:
            say(f"{height}×{width}, {model}: memory")
            results[model] = _weighed(results[model], settings, runs[model], height, width, device)
    return ModelCase(
        scale=settings.scale,
        height=height,
        width=width,
        results=_with_ratios(tuple(results[model] for model in settings.models)),
    )


def _counted(competitor: Competitor, height: int, width: int) -> MultiplyAdds | None:
    try:
        return count_multiply_adds(competitor.network, height, width)
    except UsageError:  # a network that needs values to run
        return None


def _expected(
    competitor: Competitor, height: int, width: int, counted: MultiplyAdds | None
) -> float:
    """Seconds of one run: those of a small image, times the ratio of the work."""
    small = competitor.on(_SMALL, _SMALL)
    small()
    seconds = _once(small)
    few = _counted(competitor, _SMALL, _SMALL)
    pixels = height * width / _SMALL**2
    work = counted.total / few.total if counted and few and few.total else pixels
    return seconds * max(1.0, work)


def _once(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _weighed(
    result: ModelResult,
    settings: ModelSettings,
    run: Callable[[], object],
    height: int,
    width: int,
    device: torch.device,
) -> ModelResult:
    if device.type == "cuda":
        return replace(result, extra_mib=peak_on_gpu(run, device) / 2**20)
    if device.type != "cpu":
        return replace(result, memory_skipped=f"{device.type} doesn't say what was held at most")
    try:
        held = peak_memory(result.model, settings, height, width)
    except HspanError as error:
        return replace(result, memory_skipped=str(error))
    return replace(result, extra_mib=held / 2**20)


def _with_ratios(results: tuple[ModelResult, ...]) -> tuple[ModelResult, ...]:
    """Set every time beside that of the first network that has one."""
    first = next((r.milliseconds for r in results if r.milliseconds is not None), None)
    if first is None:
        return results
    return tuple(
        r if r.milliseconds is None else replace(r, ratio=r.milliseconds / first) for r in results
    )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

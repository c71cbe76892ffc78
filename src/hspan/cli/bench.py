"""``hspan bench``: how fast things are on this machine, beside what they are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hspan.cli._json_output import check_json, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from hspan.evaluation.bench_attention import AttentionReport, Case, Result
    from hspan.evaluation.bench_models import ModelCase, ModelResult, ModelsReport

app = typer.Typer(help="Measure speed and memory on this machine.", no_args_is_help=True)


@app.command("attention")
def attention(
    tokens: Annotated[
        list[str] | None,
        typer.Option("--n", metavar="N", help="Tokens; again, or with commas, for more."),
    ] = None,
    features: Annotated[
        Literal["photo", "network", "gaussian"],
        typer.Option(help="A photograph's, the shipped network's, or random numbers."),
    ] = "photo",
    channels: Annotated[
        int | None, typer.Option(help="Channels of V, twice those of Q and K; 192 or 64, say.")
    ] = None,
    support: Annotated[
        float | None, typer.Option(help="Mean number T of keys that a query attends to.")
    ] = None,
    backward: Annotated[bool, typer.Option("--backward", help="Forward + backward too.")] = False,
    method: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this one beside ours; again for more."),
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Peak memory too, in fresh processes.")
    ] = False,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Photograph to take features from.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads; torch's own choice if absent.")] = (
        None
    ),
    budget: Annotated[float, typer.Option(help="Seconds for all timings, about.")] = 60.0,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the result; - is stdout.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it: .png, .svg or .pdf.")
    ] = None,
) -> None:
    """Time the attention beside the released program, softmax and the bare product.

    Methods alternate in one process; times are medians, and ratios are over ours: 10 × means that
    ours is ten times as fast. What takes too long or too much memory is measured on some of the
    queries and scaled (marked ~), or left out with the reason.
    """
    from rich.console import Console

    from hspan.evaluation.bench_attention import (
        Settings,
        bench_attention,
        check_plot,
        plot_attention,
    )

    check_json(json_file)
    if plot is not None:
        check_plot(plot)
    given: dict[str, Any] = {
        "tokens": None if tokens is None else _numbers(tokens),
        "channels": channels,
        "support": support,
        "methods": None if method is None else tuple(method),
    }
    _check_own(features, given)
    settings = Settings(
        features=features,
        directions=("forward", "forward+backward") if backward else ("forward",),
        threads=threads,
        budget=budget,
        memory=memory,
        image=image,
        **{name: value for name, value in given.items() if value is not None},
    )
    notes = Console(stderr=True, highlight=False)
    out = notes if json_file == "-" else Console(highlight=False)

    def keep(report: AttentionReport) -> None:  # an interruption loses only what it interrupts
        if json_file not in (None, "-"):
            write_json(report.to_json(), json_file)

    with notes.status("") as status:
        report = bench_attention(
            [settings],
            say=status.update,
            on_case=lambda case: _print_case(case, out),
            on_report=keep,
        )
    _print_machine(
        report,
        out,
        "medians of runs that alternate in one process; × ours: time over that of hspan; error: "
        "relative, against float64; ~: scaled from some of the queries; --json has the protocol",
    )
    if json_file == "-":
        write_json(report.to_json(), json_file)
    if plot is not None:
        plot_attention(report, [plot])


@app.command("models")
def models(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Networks or checkpoint files; all if absent."),
    ] = None,
    scale: Annotated[int, typer.Option("--scale", "-s", help="2, 3 or 4.")] = 4,
    size: Annotated[
        list[str] | None,
        typer.Option("--size", metavar="HxW", help="Of the LR image; again for more."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda...")] = "auto",
    precision: Annotated[Literal["fp32", "bf16", "fp16"], typer.Option()] = "fp32",
    memory: Annotated[
        bool, typer.Option("--memory", help="Peak memory too, in fresh processes.")
    ] = False,
    threads: Annotated[int | None, typer.Option(help="Threads; torch's own choice if absent.")] = (
        None
    ),
    budget: Annotated[float, typer.Option(help="Seconds for all timings, about.")] = 120.0,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the result; - is stdout.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw cost against published PSNR: .png, .svg or .pdf."),
    ] = None,
) -> None:
    """Time networks on images of one size, beside their memory and multiply-adds.

    Networks alternate in one process; times are medians, and ratios are over the first. Names of
    the registry get random weights, files their own.
    """
    from rich.console import Console

    from hspan.evaluation.bench_attention import check_plot
    from hspan.evaluation.bench_models import ModelSettings, bench_models, plot_models

    check_json(json_file)
    if plot is not None:
        check_plot(plot)
    given: dict[str, Any] = {
        "models": None if not names else tuple(names),
        "sizes": None if not size else tuple(_size(word) for word in size),
    }
    settings = ModelSettings(
        scale=scale,
        device=device,
        precision=precision,
        threads=threads,
        budget=budget,
        memory=memory,
        **{name: value for name, value in given.items() if value is not None},
    )
    notes = Console(stderr=True, highlight=False)
    out = notes if json_file == "-" else Console(highlight=False)
    with notes.status("") as status:
        report = bench_models(
            settings, say=status.update, on_case=lambda case: _print_models(case, memory, out)
        )
    _print_machine(
        report,
        out,
        "medians of runs that alternate in one process; × first: time over that of the first "
        "network; attention over N positions counts as N×N; --json has the protocol",
    )
    if json_file is not None:
        write_json(report.to_json(), json_file)
    if plot is not None:
        plot_models(report, [plot])


def _size(word: str) -> tuple[int, int]:
    """Height and width."""
    from hspan.errors import UsageError

    height, _, width = word.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise UsageError(f"--size is HEIGHTxWIDTH in LR pixels, as 180x320, got {word!r}")
    return int(height), int(width)


def _numbers(words: list[str]) -> tuple[int, ...]:
    """Numbers of tokens, ascending, each once."""
    from hspan.errors import UsageError

    parts = [part.strip() for word in words for part in word.split(",")]
    wrong = next((part for part in parts if not part.isdecimal()), None)
    if wrong is not None:
        raise UsageError(f"--n is a number of tokens, or several with commas, got {wrong!r}")
    return tuple(sorted({int(part) for part in parts}))


def _check_own(features: str, given: dict[str, Any]) -> None:
    from hspan.errors import UsageError

    for name in ("channels", "support"):
        if features == "network" and given[name] is not None:
            raise UsageError(f"--{name} can't be chosen: the network's features have their own")


def _print_case(case: Case, console: Console) -> None:
    from rich.table import Table

    title = f"N = {case.tokens:,}, {case.features} features, {case.direction}"
    if case.skipped is not None:
        console.print(f"{title}: {case.skipped}", markup=False, soft_wrap=True)
        return
    weighed = any(r.extra_mib is not None or r.memory_skipped for r in case.results)
    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for name in ("ms", "× ours", "error", *(["MiB"] if weighed else [])):
        table.add_column(name, justify="right")
    table.add_column("remarks")
    for result in case.results:
        memory = [_number(result.extra_mib)] if weighed else []
        table.add_row(
            result.title,
            ("~" if result.extrapolated else "") + _number(result.milliseconds),
            _number(result.ratio),
            "-" if result.relative_error is None else f"{result.relative_error:.1e}",
            *memory,
            _remarks(result, weighed),
        )
    console.print(table)
    console.print(
        f"Q and K of {case.query_channels} channels, V of {case.value_channels}; mean support "
        f"T = {case.support:.1f} over {case.support_queries:,} queries; {case.source}",
        markup=False,
        soft_wrap=True,
    )


def _remarks(result: Result, weighed: bool) -> str:
    if result.skipped:
        return result.skipped
    remarks: list[str] = []
    if result.extrapolated:
        remarks.append(f"{result.rows:,} queries")
    if result.tile is not None and result.rows > result.tile:
        remarks.append(f"{result.tile:,} at a time")
    if weighed and result.memory_skipped:
        remarks.append(f"memory: {result.memory_skipped}")
    return "; ".join(remarks)


def _number(value: float | None) -> str:
    """Three digits: differences below that come and go."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _print_models(case: ModelCase, weighed: bool, console: Console) -> None:
    from rich.table import Table

    table = Table(
        title=f"×{case.scale}, LR images of {case.height}×{case.width} pixels", title_justify="left"
    )
    table.add_column("model", no_wrap=True)
    for name in ("params M", "mult-adds G", "ms", "× first", *(["MiB"] if weighed else [])):
        table.add_column(name, justify="right")
    table.add_column("remarks")
    for result in case.results:
        work = result.multiply_adds
        table.add_row(
            result.model,
            _number(None if result.parameters is None else result.parameters / 1e6),
            _number(None if work is None else work.total / 1e9),
            _number(result.milliseconds),
            _number(result.ratio),
            *([_number(result.extra_mib)] if weighed else []),
            _model_remarks(result),
        )
    console.print(table)


def _model_remarks(result: ModelResult) -> str:
    if result.skipped:
        return result.skipped
    remarks = [] if result.weights == "random" else [result.network]
    if result.memory_skipped:
        remarks.append(f"memory: {result.memory_skipped}")
    return "; ".join(remarks)


def _print_machine(report: AttentionReport | ModelsReport, console: Console, legend: str) -> None:
    machine = report.machine
    flags = ", ".join(machine["instructions"]) or "none known"
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    for line in (
        f"{machine['processor']}: cores {machine['cores']}, threads {machine['threads']}; {flags}",
        _kernel(machine),
        versions,
        legend,
    ):
        console.print(line, markup=False, soft_wrap=True)


def _kernel(machine: dict[str, Any]) -> str:
    if machine["instruction_set"] is None:
        return f"hspan: backend {machine['backend']}; {machine['no_compiled_kernels']}"
    return f"hspan: backend {machine['backend']}, instruction set {machine['instruction_set']}"

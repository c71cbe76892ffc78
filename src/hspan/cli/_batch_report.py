"""What a person sees of a batch: a line per file, a bar, and at the end what failed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hspan.errors import HspanError, UsageError

if TYPE_CHECKING:
    from hspan.inference import Failure, Job, Outcome, Upscaler
    from hspan.integrations.ray import RemoteOutcome

BatchProgress = Callable[[str, int, int], None]
"""Called with a file's name, its finished tiles and all its tiles."""


class BatchReport:
    """Collects outcomes; prints the good ones at once and the failures together at the end.

    Args:
        as_json: print one list at the end instead of lines.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._entries: list[dict[str, Any]] = []
        self._bar: Callable[[], None] | None = None

    @property
    def failed(self) -> int:
        """Number of inputs that failed."""
        return sum(entry["status"] == "failed" for entry in self._entries)

    def plan_failed(self, failure: Failure) -> None:
        """Take in what can't be tried."""
        target = None if failure.target is None else str(failure.target)
        self.fail(str(failure.source), target, failure.reason)

    def add(self, outcome: Outcome | RemoteOutcome) -> None:
        """Take in and show what became of a job."""
        source, target = str(outcome.job.source), str(outcome.job.target)
        if self._bar is not None:
            self._bar()
        if outcome.report is None:
            if outcome.status == "failed":
                self.fail(source, target, outcome.error or "")
            else:
                self.skip(source, target)
            return
        report = outcome.report
        if report.repeated_in_fp32:
            complain(
                f"note: {source}: {report.repeated_in_fp32} of {report.tiles} tiles weren't "
                f"finite in {report.precision} and were computed again in fp32"
            )
        (w, h), (sr_w, sr_h) = report.lr_size, report.sr_size
        self.done(
            {
                "input": source,
                "output": target,
                "status": "done",
                "seconds": round(outcome.seconds, 3),
                "lr_size": report.lr_size,
                "sr_size": report.sr_size,
                "model": report.model,
                "scale": report.scale,
                "precision": report.precision,
                "tile": report.tile,
                "tiles": report.tiles,
                "processed": report.summary,
                "repeated_in_fp32": report.repeated_in_fp32,
                "resumed": report.resumed,
            },
            f"{source} -> {target}  {w}x{h} -> {sr_w}x{sr_h}, {report.model}, "
            f"{report.precision}, {report.summary}, {outcome.seconds:.1f} s",
        )

    def forecast(self, upscaler: Upscaler, job: Job) -> None:
        """Take in and show what a job would take."""
        from hspan.inference import forecast_file

        source, target = str(job.source), str(job.target)
        try:
            found = forecast_file(upscaler, job.source, job.target)
        except HspanError as error:
            self._fail(source, target, str(error))
            return
        self.done(
            {
                "input": source,
                "output": target,
                "status": "planned",
                "lr_size": found.lr_size,
                "sr_size": found.sr_size,
                "pages": found.pages,
                "tile": found.plan.tile,
                "tiles": found.plan.tiles,
                "processed": found.plan.summary,
                "streamed": found.streamed,
                "memory_bytes": found.memory_bytes,
                "disk_bytes": found.disk_bytes,
                "output_bytes": found.output_bytes,
                "seconds": round(found.seconds, 6),
            },
            f"{source} -> {target}  {found.summary}",
        )

    def done(self, entry: dict[str, Any], line: str) -> None:
        """Take in and show a success."""
        if not self._as_json:
            show(line)
        self._entries.append(entry)

    def skip(self, source: str, target: str) -> None:
        """Take in what was there already."""
        self._entries.append({"input": source, "output": target, "status": "skipped"})

    def close(self) -> None:
        """Print what is left to print: the failures, a count of many, or the JSON list."""
        for entry in self._entries:
            if entry["status"] == "failed":
                complain(entry["error"])
        if self._as_json:
            print(json.dumps(self._entries, indent=2))
            return
        counts = [
            f"{count} {status}"
            for status in ("planned", "done", "skipped", "failed")
            if (count := sum(entry["status"] == status for entry in self._entries))
        ]
        if len(self._entries) > 1 or "1 skipped" in counts:
            show(", ".join(counts))

    def fail(self, source: str, target: str | None, reason: str) -> None:
        """Take in an input that failed, and why."""
        sentence = " ".join(reason.split())
        named = sentence if source in sentence else f"{source}: {sentence}"
        entry = {"input": source, "output": target, "status": "failed", "error": named}
        self._entries.append(entry)

    @contextmanager
    def progress(self, files: int) -> Generator[BatchProgress | None]:
        """Bars on standard error, if somebody is looking: of the batch, and of a file's tiles."""
        if not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            whole = bar.add_task("files", total=files, visible=files > 1)
            current = bar.add_task("", total=None)

            def advance(name: str, done: int, tiles: int) -> None:
                bar.update(current, description=escape(name), completed=done, total=tiles)

            def count() -> None:
                failed = f", {self.failed} failed" if self.failed else ""
                bar.update(whole, advance=1, description=f"files{failed}")

            self._bar = count
            yield advance
            self._bar = None


def complain(sentence: str) -> None:
    """Print a sentence on standard error."""
    print(f"hspan: {_harmless(sentence)}", file=sys.stderr)


def show(line: str) -> None:
    """Print a line; what the terminal's encoding doesn't know goes as escapes, not as an error."""
    encoding = sys.stdout.encoding or "utf-8"
    print(_harmless(line).encode(encoding, "backslashreplace").decode(encoding))


def _harmless(text: str) -> str:
    """Names of files may hold what makes a terminal do things."""
    return "".join(c if c.isprintable() or ord(c) > 0x9F else ascii(c)[1:-1] for c in text)


def image_bytes_out() -> Any:
    """Standard output for the bytes of an image.

    Raises:
        UsageError: a person would see them.
    """
    if sys.stdout.isatty():
        raise UsageError("an image isn't for a terminal: send it on with > FILE, or use -o FILE")
    return sys.stdout.buffer


def is_stream(path: Path | None) -> bool:
    """Whether a path means standard input or output."""
    return path is not None and str(path) == "-"

"""The progress of a training run in a terminal, or as plain lines in a log file."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress:
    """Shows decoding, then steps with loss, speed and score; an ``Observer`` of ``train``.

    Args:
        console: where to.
        max_steps: length of the run.
    """

    def __init__(self, console: Console, max_steps: int) -> None:
        self._console = console
        self._max_steps = max_steps
        self._psnr: float | None = None
        self._last: tuple[float, float] | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[state]}"),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=300,
        )
        self._caching = self._progress.add_task("decoding", total=None, visible=False, state="")
        self._steps = self._progress.add_task(
            "training", total=max_steps, visible=False, start=False, state=""
        )

    def __enter__(self) -> TrainingProgress:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def note(self, sentence: str) -> None:
        """Show a line."""
        self._console.print(escape(sentence))

    def caching(self, done: int, total: int) -> None:
        """Show how far decoding is."""
        self._progress.update(self._caching, completed=done, total=total, visible=done < total)

    def row(self, row: dict[str, float]) -> None:
        """Show a row of the log."""
        step, seconds = row["step"], row["seconds"]
        speed = ""
        if self._last and seconds > self._last[1]:
            speed = f"{(step - self._last[0]) / (seconds - self._last[1]):.2f} steps/s"
        self._last = (step, seconds)
        parts = [f"loss {row['loss']:.5f}", f"lr {row['lr']:.2e}", speed]
        if "psnr" in row:
            parts.append(f"{row['psnr']:.3f} dB")
            self._psnr = row["psnr"]
        elif self._psnr is not None:
            parts.append(f"(last score {self._psnr:.3f} dB)")
        state = "  ".join(part for part in parts if part)
        if self._console.is_terminal:
            self._progress.start_task(self._steps)
            self._progress.update(self._steps, completed=int(step), visible=True, state=state)
            if "psnr" in row:
                self._console.print(f"step {step:.0f}: {row['psnr']:.3f} dB")
        else:
            self._console.print(f"step {step:.0f}/{self._max_steps}  {state}")

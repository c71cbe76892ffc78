"""What happens between steps: stopping, scoring, logging, saving; called in this order.

Each works at the end of a step, when weights, averages and optimizer agree, so that a checkpoint
never holds half a step, whatever interrupted the run.
"""

import csv
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

import lightning as L

from hspan.training._datamodule import PatchDataModule
from hspan.training._module import SRTrainingModule
from hspan.training._validation import ValidationSet

COLUMNS = (
    "step",
    "seconds",  # of training, over all parts of the run
    "loss",
    "lr",
    "grad_norm",
    "skipped",
    "images_per_second",
    "data_wait",  # share of the time spent waiting for batches
    "psnr",
)


class StopCallback(L.Callback):
    """Ends the run after the current step when its time is over or a signal asks for it.

    Args:
        max_seconds: of training, over all parts of the run; None for no limit.

    Attributes:
        interrupted: whether SIGINT or SIGTERM ended the run.
    """

    def __init__(self, max_seconds: float | None) -> None:
        self._max_seconds = max_seconds
        self._previous: dict[int, Any] = {}
        self.interrupted = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take over the signals; only a main thread may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted and number == signal.SIGINT:  # the second Ctrl-C means now
            raise KeyboardInterrupt
        self.interrupted = True

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Ask the trainer to stop."""
        seconds = cast(SRTrainingModule, pl_module).seconds
        late = self._max_seconds is not None and seconds >= self._max_seconds
        if trainer.world_size > 1:  # whoever stops alone leaves the others waiting
            decide = trainer.strategy.reduce_boolean_decision
            late = decide(late, all=False)
            self.interrupted = decide(self.interrupted, all=False)
        trainer.should_stop = trainer.should_stop or late or self.interrupted

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give the signals back, before Lightning does the same."""
        self._give_back()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


class ValidationCallback(L.Callback):
    """Scores the averaged weights every so often and at the end.

    Args:
        images: what to score on.
        every: steps between scores.
        stop: an interrupted run isn't scored at its end.

    Attributes:
        psnr: the latest score; None before the first.
        psnr_step: when that was.
        best: the best score so far.
        seconds: spent on scoring in this part of the run.
    """

    def __init__(self, images: ValidationSet, every: int, stop: StopCallback) -> None:
        self._images = images
        self._every = every
        self._stop = stop
        self.psnr: float | None = None
        self.psnr_step = -1
        self.best = float("-inf")
        self.seconds = 0.0

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Score where it is time."""
        step = trainer.global_step
        if step % self._every and not (_ending(trainer) and not self._stop.interrupted):
            return
        # Every device takes part, so that none waits for the others past a time limit.
        start = time.monotonic()
        self.psnr = self._images.score(cast(SRTrainingModule, pl_module).result)
        self.psnr_step = step
        self.seconds += time.monotonic() - start

    def state_dict(self) -> dict[str, Any]:
        """The best score belongs to the run."""
        return {"best": self.best, "psnr": self.psnr, "psnr_step": self.psnr_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.best = state_dict["best"]
        self.psnr = state_dict["psnr"]
        self.psnr_step = state_dict["psnr_step"]


class LogCallback(L.Callback):
    """Writes ``log.csv`` and whatever loggers the trainer has, and tells an observer.

    Args:
        path: the CSV file; rows after the step that a run resumes from are dropped.
        every: steps between rows.
        batch_size: patches per step.
        validation: whose scores to log; None without.
        observe: called with each row.
        warn: called with a sentence when steps were skipped.
    """

    def __init__(
        self,
        path: Path,
        every: int,
        batch_size: int,
        validation: ValidationCallback | None,
        observe: Callable[[dict[str, float]], None],
        warn: Callable[[str], None],
    ) -> None:
        self._path = path
        self._every = every
        self._batch_size = batch_size
        self._validation = validation
        self._observe = observe
        self._warn = warn
        self._skipped = 0.0
        self._since = (0, 0.0, 0.0)  # step, seconds of training alone, seconds of waiting

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Continue the file of an earlier part of the run."""
        module = cast(SRTrainingModule, pl_module)
        self._skipped = float(module.skipped)
        self._since = (trainer.global_step, module.seconds, 0.0)
        if not trainer.is_global_zero:
            return
        rows: list[list[str]] = []
        if self._path.exists():
            with self._path.open(newline="", encoding="utf-8") as file:
                whole = [r for r in list(csv.reader(file))[1:] if len(r) == len(COLUMNS)]
            rows = [r for r in whole if int(r[0]) <= trainer.global_step]
        unfinished = self._path.with_name(f"{self._path.name}.tmp")  # a kill must lose no row
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([list(COLUMNS), *rows])
        os.replace(unfinished, self._path)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write a row where it is time, or where there is a score."""
        step = trainer.global_step
        scored = self._validation is not None and self._validation.psnr_step == step
        if step % self._every and not scored and not _ending(trainer):
            return
        module = cast(SRTrainingModule, pl_module)
        row = {"step": float(step), "seconds": round(module.seconds, 3), **module.take_log()}
        row |= self._speed(trainer, step, module.seconds)
        if self._validation is not None and scored:
            row["psnr"] = cast(float, self._validation.psnr)
        if trainer.is_global_zero:
            self._write(trainer, row)
        if row["skipped"] > self._skipped:
            self._warn(
                f"skipped {row['skipped'] - self._skipped:.0f} steps up to step {step}: the loss "
                "or its gradient wasn't finite"
            )
            self._skipped = row["skipped"]

    def _speed(self, trainer: L.Trainer, step: int, seconds: float) -> dict[str, float]:
        batches = cast(PatchDataModule, cast(Any, trainer).datamodule).batches
        waited = batches.wait_seconds if batches else 0.0
        seconds -= self._validation.seconds if self._validation else 0.0
        old_step, old_seconds, old_waited = self._since
        self._since = (step, seconds, waited)
        elapsed = max(seconds - old_seconds, 1e-9)
        return {
            "images_per_second": (step - old_step) * self._batch_size / elapsed,
            "data_wait": (waited - old_waited) / elapsed,
        }

    def _write(self, trainer: L.Trainer, row: dict[str, float]) -> None:
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(
                [f"{row[c]:.0f}" if c in ("step", "skipped") else row.get(c, "") for c in COLUMNS]
            )
        for logger in trainer.loggers:
            logger.log_metrics({k: v for k, v in row.items() if k != "step"}, int(row["step"]))
        self._observe(row)


class CheckpointCallback(L.Callback):
    """Keeps ``last.ckpt`` recent and ``best.ckpt`` best.

    Args:
        folder: where they go.
        every: steps between writing ``last.ckpt``.
        minutes: time after which it is written anyway.
        validation: whose scores decide on ``best.ckpt``; None without.
    """

    def __init__(
        self, folder: Path, every: int, minutes: float, validation: ValidationCallback | None
    ) -> None:
        self._folder = folder
        self._every = every
        self._seconds = minutes * 60
        self._validation = validation
        self._saved_at = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._saved_at = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save where it is time."""
        step, validation = trainer.global_step, self._validation
        if validation is not None and validation.psnr_step == step:
            psnr = cast(float, validation.psnr)
            if psnr > validation.best:
                validation.best = psnr
                self._save(trainer, "best.ckpt")
        # The devices of a run must agree on when to save, and their clocks don't.
        late = time.monotonic() - self._saved_at >= self._seconds
        late = trainer.strategy.broadcast(late) if trainer.world_size > 1 else late
        if step % self._every == 0 or late or _ending(trainer):
            self._save(trainer, "last.ckpt")
            self._saved_at = time.monotonic()

    def _save(self, trainer: L.Trainer, name: str) -> None:
        unfinished = self._folder / f"{name}.tmp"
        trainer.save_checkpoint(unfinished)
        if trainer.is_global_zero:
            os.replace(unfinished, self._folder / name)


def _ending(trainer: L.Trainer) -> bool:
    return trainer.should_stop or trainer.global_step >= trainer.max_steps

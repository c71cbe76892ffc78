"""Many files through one network: decoded and encoded by threads, one result after the other.

While the network works on a file in the calling thread, threads read the next ones and write the
last ones, so that with a network worth its name nothing waits for a codec. Large images go alone,
without that overlap, in bounded memory.

A result is written into a hidden folder beside its target (``.hspan-`` and the number of the run),
brought to the disk, noted in the manifest with its hash, and only then given its name. A process
that ends at any moment leaves whole results under final names, and in the hidden folder what the
next run with the same manifest removes.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hspan.errors import HspanError, InputError
from hspan.hardware import available_ram
from hspan.imaging import Picture, probe_image, write_image
from hspan.inference.files import (
    Job,
    exists_already,
    prepare_folder,
    read_source,
    upscale_file,
)
from hspan.inference.forecast import forecast_file
from hspan.inference.manifest import Entry, Manifest, ManifestError, file_hash
from hspan.inference.upscaler import Report, Upscaler
from hspan.weights import weights_hash

LARGE_BYTES = 2**28  # of a result, from which on an image goes alone
LARGE_SHARE = 1 / 64  # of the free memory, likewise: up to 4 results per thread wait at a time

Status = Literal["done", "skipped", "failed"]
BatchProgress = Callable[[Job, int, int], None]
"""Called with the job in the network, its finished tiles and all its tiles."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: which.
        status: "done"; "skipped" (the result was there already); "failed".
        seconds: of reading, computing and writing, without waiting for other files.
        report: how it was upscaled; None unless done.
        error: one sentence that names the input; None unless failed.
    """

    job: Job
    status: Status
    seconds: float = 0.0
    report: Report | None = None
    error: str | None = None


def batch_settings(upscaler: Upscaler, quality: int) -> dict[str, Any]:
    """What the results of a batch depend on, for a manifest."""
    return {
        "weights": weights_hash(upscaler.model),
        "scale": upscaler.scale,
        "device": upscaler.device.type,
        "precision": upscaler.precision,
        "tile": upscaler.tile,
        "overlap": upscaler.overlap,
        "ensemble": upscaler.ensemble,
        "quality": quality,
    }


def upscale_batch(
    upscaler: Upscaler,
    jobs: Sequence[Job],
    *,
    quality: int = 95,
    manifest: Manifest | None = None,
    skip_existing: bool = False,
    threads: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: BatchProgress | None = None,
) -> Iterator[Outcome]:
    """Upscale files, whatever happens to some of them.

    Args:
        upscaler: the network.
        jobs: from ``plan_files``, with ``allow_existing`` if one of the next but one is given.
        quality: of JPEG and WebP, 1 to 100.
        manifest: continued, and kept; files that it knows as done are skipped if input and result
            are as they were.
        skip_existing: whether to skip files whose result is there.
        threads: that read, and that write; None is one for each processor, up to 4.
        stop: asked after every tile; when it says so, what has gone through the network is
            written, and the iteration ends early.
        progress: see ``BatchProgress``.

    Yields:
        Outcomes in the order of the jobs, as soon as they are known.

    Raises:
        ManifestError: the manifest can't be written any more.
    """
    threads = threads or min(os.cpu_count() or 1, 4)
    batch = _Batch(upscaler, jobs, quality, manifest, skip_existing, stop, progress)
    readers = ThreadPoolExecutor(threads, thread_name_prefix="hspan-read")
    writers = ThreadPoolExecutor(threads, thread_name_prefix="hspan-write")
    try:
        yield from batch.run(readers, writers, ahead=2 * threads)
    finally:
        readers.shutdown(cancel_futures=True)
        writers.shutdown()
        batch.clean_up()


def failure_reason(source: object, error: Exception) -> str:
    """Why a file failed, in one sentence that names it."""
    if isinstance(error, HspanError):
        sentence = str(error)
    elif isinstance(error, MemoryError):
        sentence = "there isn't enough memory for it"
    elif isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        sentence = f"{error.strerror or error}{where}"
    else:
        sentence = f"unexpected {type(error).__name__} ({error}); please report it"
    sentence = " ".join(sentence.split())
    return sentence if str(source) in sentence else f"{source}: {sentence}"


class _StoppedError(Exception):
    """A tile is finished, and no further one is wanted."""


@dataclass(frozen=True)
class _Opened:
    """A file on its way to the network; large ones aren't decoded yet."""

    job: Job
    picture: Picture | None
    seconds: float
    source_bytes: int
    source_changed: int


class _Batch:
    def __init__(
        self,
        upscaler: Upscaler,
        jobs: Sequence[Job],
        quality: int,
        manifest: Manifest | None,
        skip_existing: bool,
        stop: Callable[[], bool],
        progress: BatchProgress | None,
    ) -> None:
        self._upscaler = upscaler
        self._jobs = jobs
        self._quality = quality
        self._manifest = manifest
        self._skip_existing = skip_existing
        self._stop = stop
        self._progress = progress
        self._hidden = f".hspan-{manifest.run if manifest else secrets.token_hex(4)}"
        self._large = min(LARGE_BYTES, int(available_ram() * LARGE_SHARE))
        if manifest is not None and manifest.continued:
            self.clean_up()

    def run(
        self, readers: ThreadPoolExecutor, writers: ThreadPoolExecutor, ahead: int
    ) -> Iterator[Outcome]:
        waiting = iter(self._jobs)
        opening: deque[tuple[Job, Future[_Opened | Outcome]]] = deque()
        finishing: deque[Future[Outcome]] = deque()
        while not self._stop():
            while len(opening) < ahead and (job := next(waiting, None)) is not None:
                opening.append((job, readers.submit(self._open, job)))
            if not opening:
                break
            job, future = opening.popleft()
            try:
                finishing.append(self._compute(job, future.result(), writers))
            except _StoppedError:
                break
            while finishing and (finishing[0].done() or len(finishing) > ahead):
                yield finishing.popleft().result()
        while finishing:
            yield finishing.popleft().result()

    def clean_up(self) -> None:
        """Remove the hidden folders, with what an ended process left in them."""
        for folder in {job.target.parent for job in self._jobs}:
            shutil.rmtree(folder / self._hidden, ignore_errors=True)

    def _open(self, job: Job) -> _Opened | Outcome:
        """Decide whether there is something to do, and decode; in a reading thread."""
        begin = time.perf_counter()
        try:
            decision = self._decide(job)
            if isinstance(decision, Outcome):
                return decision
            prepare_folder(decision.target.parent)
            info = probe_image(job.source)
            status = job.source.stat()
            size = info.width * info.height * info.channels * info.dtype.itemsize
            forecast = forecast_file(self._upscaler, job.source, job.target, timed=False)
            small = not forecast.streamed and size * self._upscaler.scale**2 <= self._large
            picture = read_source(job.source) if small else None
            seconds = time.perf_counter() - begin
            return _Opened(decision, picture, seconds, status.st_size, status.st_mtime_ns)
        except ManifestError:
            raise
        except Exception as error:
            return self._failed(job, error)

    def _decide(self, job: Job) -> Job | Outcome:
        """The job, allowed to replace its own earlier result; or why there is nothing to do."""
        earlier = self._earlier(job)
        exists = os.path.lexists(job.target)
        if earlier is not None and exists:
            if earlier.state == "done" and job.target.stat().st_size == earlier.bytes:
                if _same_source(job.source, earlier):
                    return Outcome(job, "skipped")
                if file_hash(job.target) == earlier.sha256:
                    return replace(job, overwrite=True)
            elif earlier.state == "writing" and file_hash(job.target) == earlier.sha256:
                self._record(replace(earlier, state="done"))
                return Outcome(job, "skipped")
            elif earlier.state == "started" and not job.overwrite:
                self._record(self._finished(earlier, job))  # it wasn't there before
                return Outcome(job, "skipped")
        if exists and self._skip_existing:
            return Outcome(job, "skipped")
        if exists and not job.overwrite:
            raise InputError(f"{job.source}: {exists_already(job.target)}")
        return job

    def _earlier(self, job: Job) -> Entry | None:
        entry = self._manifest.entry(_absolute(job.source)) if self._manifest else None
        return entry if entry is not None and entry.target == _absolute(job.target) else None

    def _compute(
        self, job: Job, opened: _Opened | Outcome, writers: ThreadPoolExecutor
    ) -> Future[Outcome]:
        """Run the network in the calling thread, and hand the result to a writing one."""
        if isinstance(opened, Outcome):
            return _finished(opened)
        begin = time.perf_counter()

        def advance(done: int, tiles: int) -> None:
            if self._progress is not None:
                self._progress(job, done, tiles)
            if done < tiles and self._stop():
                raise _StoppedError

        try:
            if opened.picture is None:
                return _finished(self._compute_alone(opened, advance))
            result, report = self._upscaler.upscale_picture(
                opened.picture, folder=opened.job.target.parent, progress=advance
            )
        except (_StoppedError, ManifestError):
            raise
        except Exception as error:
            return _finished(self._failed(job, error))
        seconds = opened.seconds + time.perf_counter() - begin
        return writers.submit(self._write, opened, result, report, seconds)

    def _compute_alone(self, opened: _Opened, advance: Callable[[int, int], None]) -> Outcome:
        begin, job = time.perf_counter(), opened.job
        entry = self._entry(opened, "started")
        self._record(entry)
        report = upscale_file(self._upscaler, job, quality=self._quality, progress=advance)
        self._record(self._finished(entry, job))
        seconds = opened.seconds + time.perf_counter() - begin
        return Outcome(job, "done", seconds, report)

    def _write(self, opened: _Opened, picture: Picture, report: Report, before: float) -> Outcome:
        """In a writing thread."""
        begin, job = time.perf_counter(), opened.job
        hidden = job.target.parent / self._hidden
        unnamed = hidden / job.target.name
        try:
            hidden.mkdir(exist_ok=True)
            write_image(unnamed, picture, quality=self._quality)
            _to_disk(unnamed)
            entry = self._entry(opened, "writing")
            if self._manifest is not None:
                size, digest = unnamed.stat().st_size, file_hash(unnamed)
                entry = replace(entry, sha256=digest, bytes=size)
            self._record(entry)
            give_name(unnamed, job.target, overwrite=job.overwrite)
            self._record(replace(entry, state="done"))
        except ManifestError:
            raise
        except Exception as error:
            with suppress(OSError):
                unnamed.unlink()
            return self._failed(job, error)
        seconds = before + time.perf_counter() - begin
        return Outcome(job, "done", seconds, report)

    def _failed(self, job: Job, error: Exception) -> Outcome:
        sentence = failure_reason(job.source, error)
        paths = _absolute(job.source), _absolute(job.target)
        self._record(Entry(*paths, "failed", error=sentence))
        return Outcome(job, "failed", error=sentence)

    def _entry(self, opened: _Opened, state: str) -> Entry:
        job = opened.job
        return Entry(
            _absolute(job.source),
            _absolute(job.target),
            state,
            source_bytes=opened.source_bytes,
            source_changed=opened.source_changed,
        )

    def _finished(self, entry: Entry, job: Job) -> Entry:
        if self._manifest is None:
            return entry
        size, digest = job.target.stat().st_size, file_hash(job.target)
        return replace(entry, state="done", sha256=digest, bytes=size)

    def _record(self, entry: Entry) -> None:
        if self._manifest is not None:
            self._manifest.record(entry)


def give_name(unnamed: Path, target: Path, *, overwrite: bool) -> None:
    """Move a finished file to its final name in one step.

    Raises:
        InputError: the name is taken and ``overwrite`` is false, or the folder refuses.
    """
    taken = InputError(f"{target} has appeared meanwhile; --overwrite replaces it")
    try:
        if not overwrite:
            try:
                os.link(unnamed, target)  # unlike a renaming, fails where something is
                unnamed.unlink()
                return
            except FileExistsError:
                raise taken from None
            except OSError:  # a file system without links
                if os.path.lexists(target):
                    raise taken from None
        os.replace(unnamed, target)
    except OSError as error:
        raise InputError(f"{target} can't be written: {error.strerror or error}") from error


def _to_disk(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _same_source(path: Path, entry: Entry) -> bool:
    status = path.stat()
    return (status.st_size, status.st_mtime_ns) == (entry.source_bytes, entry.source_changed)


def _absolute(path: Path) -> str:
    return os.path.abspath(path)


def _finished(outcome: Outcome) -> Future[Outcome]:
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return future

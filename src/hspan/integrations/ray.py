"""A batch on a cluster: Ray Data hands files to workers, each with a network of its own.

``pip install 'hspan[cluster]'``. Inputs and outputs are paths that every machine sees, or addresses
that fsspec knows (``s3://bucket/in``). A worker fetches a file, upscales it as ``upscale_file``
does, and stores the result, which appears when it is whole. Outcomes come back to the calling
process, which alone writes the manifest: a file that was begun and not reported is done again.

Departure from batches on one machine: an object store can't refuse to replace, so what exists is
looked up once, before the start.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch

from hspan.errors import InputError, UsageError
from hspan.imaging import WRITABLE_SUFFIXES
from hspan.inference import (
    MAX_PIXELS,
    Entry,
    Job,
    Manifest,
    Report,
    Upscaler,
    failure_reason,
    plan_files,
    upscale_file,
)
from hspan.inference.files import output_suffix
from hspan.inference.manifest import file_hash
from hspan.integrations.addresses import RemoteFile, Store, fetch, store

_BLOCKS = (
    2000  # at most so many pieces of work: fewer results are lost with a worker, or waited for
)


@dataclass(frozen=True)
class RemoteJob:
    """One file to upscale, by addresses; ``target`` has the extension that is expected."""

    source: str
    target: str
    bytes: int
    changed: int | None


@dataclass(frozen=True)
class RemoteOutcome:
    """What became of a job; see ``hspan.inference.Outcome``."""

    job: RemoteJob
    status: Literal["done", "skipped", "failed"]
    seconds: float = 0.0
    report: Report | None = None
    error: str | None = None


def plan_addresses(
    inputs: Sequence[str],
    scale: int,
    *,
    out: str,
    suffix: str | None = None,
    recursive: bool = False,
) -> tuple[list[RemoteJob], list[tuple[str, str]]]:
    """Settle which files become which, by their names alone.

    Args:
        inputs: addresses of images, folders or patterns.
        scale: of the network.
        out: address of a folder; below it stand the folders below the inputs.
        suffix: between name and extension; None is ``_x2`` (with the scale).
        recursive: whether folders are descended into.

    Returns:
        Jobs, and inputs that gave none with the reason.

    Raises:
        UsageError: two inputs would become one file, or one would replace an input.
    """
    suffix = output_suffix(suffix, scale)
    folder = Store(out)
    failures: list[tuple[str, str]] = []
    found: dict[str, RemoteFile] = {}
    for given in inputs:
        try:
            images = Store(given).images(recursive=recursive)
        except InputError as error:
            failures.append((given, str(error)))
            continue
        for image in images:
            found.setdefault(image.address, image)
    taken: dict[str, str] = {}
    jobs: list[RemoteJob] = []
    for address, image in found.items():
        ending = image.name.suffix
        ending = ending if ending.lower() in WRITABLE_SUFFIXES else ".png"
        target = folder.address(image.below, f"{image.name.stem}{suffix}{ending}")
        first = taken.setdefault(target, address)
        if first != address or target in found:
            other = first if first != address else target
            raise UsageError(f"{address} would become {target}, as would or is {other}")
        jobs.append(RemoteJob(address, target, image.bytes, image.changed))
    return jobs, failures


def upscale_on_ray(
    jobs: Sequence[RemoteJob],
    model: str,
    scale: int | None = None,
    *,
    out: str,
    options: dict[str, Any],
    suffix: str | None = None,
    quality: int = 95,
    max_pixels: int = MAX_PIXELS,
    manifest: Manifest | None = None,
    skip_existing: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[RemoteOutcome]:
    """Upscale files on the cluster that ``RAY_ADDRESS`` names, or on this machine.

    Args:
        jobs: from ``plan_addresses``.
        model: a shipped weight's name, or a checkpoint's path, which is sent to the workers.
        scale: as for ``Upscaler``.
        out: the folder of ``plan_addresses``.
        options: further arguments of ``Upscaler``.
        suffix: as given to ``plan_addresses``.
        quality: of JPEG and WebP, 1 to 100.
        max_pixels: that an input may have.
        manifest: continued, and kept by this process.
        skip_existing: whether to skip files whose result is there.
        overwrite: whether results that are there may be replaced.
        workers: how many; None is one for each GPU of the cluster, or for each processor where it
            has none.
        stop: asked after every outcome.

    Yields:
        Outcomes in the order in which they become known.

    Raises:
        UsageError: Ray isn't installed or has too few processors.
        ManifestError: the manifest can't be written any more.
    """
    existing = Store(out).sizes()
    todo: list[RemoteJob] = []
    for job in jobs:
        outcome = _decided(job, existing, manifest, skip_existing, overwrite)
        if outcome is None:
            todo.append(job)
        else:
            yield outcome
    if not todo or stop():
        return
    if manifest is not None:
        manifest.record(*[_entry(job, "started") for job in todo])
    construct: dict[str, Any] = {
        "model": model,
        "content": Path(model).read_bytes() if Path(model).is_file() else None,
        "scale": scale,
        "options": options,
        "suffix": suffix,
        "quality": quality,
        "max_pixels": max_pixels,
    }
    by_source = {job.source: job for job in todo}
    for row in _rows(todo, construct, workers):
        result: dict[str, Any] = json.loads(row["result"])
        job = by_source[result["source"]]
        if manifest is not None:
            error = result.get("error")
            state = "failed" if error else "done"
            found = {key: result.get(key) for key in ("sha256", "bytes")}
            manifest.record(_entry(job, state, error=error, **found))
        yield _outcome(job, result)
        if stop():
            return


def _rows(
    todo: list[RemoteJob], construct: dict[str, Any], workers: int | None
) -> Iterator[dict[str, Any]]:
    try:
        ray: Any = import_module("ray")
        data: Any = import_module("ray.data")
    except ImportError as error:
        raise UsageError(
            "the engine ray needs more packages: pip install 'hspan[cluster]'"
        ) from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="warning")
    resources = ray.cluster_resources()
    gpus, processors = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    workers = workers or max(1, min(gpus or processors, len(todo)))
    if workers > processors:
        raise UsageError(f"{workers} workers need as many processors; the cluster has {processors}")
    shares = {"num_cpus": 1.0, "num_gpus": min(1.0, gpus / workers)}
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    items = [{"job": json.dumps(asdict(job))} for job in todo]
    blocks = max(min(len(items), _BLOCKS), 1)
    rows = data.from_items(items, override_num_blocks=blocks).map(
        Worker,
        fn_constructor_kwargs=construct,
        compute=data.ActorPoolStrategy(size=workers),
        **shares,
    )
    yield from rows.iter_rows()


class Worker:
    """A network in a process of the cluster; Ray builds it once and calls it with rows.

    Args:
        model: a shipped weight's name, or what the checkpoint was called.
        content: of the checkpoint.
        scale: as for ``Upscaler``.
        options: likewise.
        suffix: of results.
        quality: of JPEG and WebP.
        max_pixels: that an input may have.
    """

    def __init__(
        self,
        model: str,
        content: bytes | None,
        scale: int | None,
        options: dict[str, Any],
        suffix: str | None,
        quality: int,
        max_pixels: int,
    ) -> None:
        torch.set_num_threads(1)  # a worker holds one processor
        if content is None:
            self._upscaler = Upscaler(model, scale, **options)
        else:
            with tempfile.TemporaryDirectory(prefix="hspan-") as folder:
                path = Path(folder) / Path(model).name
                path.write_bytes(content)
                self._upscaler = Upscaler(path, scale, **options)
            self._upscaler.name = model
        self._suffix = suffix
        self._quality = quality
        self._max_pixels = max_pixels

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Do one job; whatever happens to it comes back as a result."""
        job = RemoteJob(**json.loads(row["job"]))
        result: dict[str, Any] = {"source": job.source}
        begin = time.perf_counter()
        try:
            result |= self._upscale(job)
        except Exception as error:
            result["error"] = failure_reason(job.source, error)
        result["seconds"] = time.perf_counter() - begin
        return {"result": json.dumps(result)}

    def _upscale(self, job: RemoteJob) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="hspan-") as name:
            folder = Path(name)
            path = folder / job.source.rsplit("/", 1)[-1]
            fetch(job.source, path)
            try:
                jobs, failures = plan_files(
                    [path],
                    self._upscaler.scale,
                    out=folder / "out",
                    suffix=self._suffix,
                    max_pixels=self._max_pixels,
                )
                if failures:
                    raise InputError(failures[0].reason)
                local: Job = jobs[0]
                report = upscale_file(self._upscaler, local, quality=self._quality)
            except InputError as error:  # names the address, not the copy
                raise InputError(str(error).replace(str(path), job.source)) from error
            target = job.target.rpartition("/")[0] + "/" + local.target.name
            if target != job.target and Store(target).files.exists(target):
                raise InputError(f"{target} exists already; move it, or upscale into another place")
            store(local.target, target)
            size, digest = local.target.stat().st_size, file_hash(local.target)
        return {"target": target, "sha256": digest, "bytes": size, "report": asdict(report)}


def _decided(
    job: RemoteJob,
    existing: dict[str, int],
    manifest: Manifest | None,
    skip_existing: bool,
    overwrite: bool,
) -> RemoteOutcome | None:
    """Why a job needs no doing or can't be done; None if it is to be done."""
    entry = manifest.entry(job.source) if manifest is not None else None
    if entry is not None and entry.target != job.target:
        entry = None
    size = existing.get(job.target)
    if size is None:
        return None
    if entry is not None:
        same = (entry.source_bytes, entry.source_changed) == (job.bytes, job.changed)
        if entry.state == "done" and entry.bytes == size and same:
            return RemoteOutcome(job, "skipped")
        if entry.state == "started" or (entry.state == "done" and entry.bytes == size):
            return None  # ours: begun without a report, or of an input that has changed
    if skip_existing:
        return RemoteOutcome(job, "skipped")
    if overwrite:
        return None
    error = f"{job.source}: {job.target} exists already; --overwrite replaces it"
    if manifest is not None:
        manifest.record(_entry(job, "failed", error=error))
    return RemoteOutcome(job, "failed", error=error)


def _entry(job: RemoteJob, state: str, **found: Any) -> Entry:
    return Entry(
        job.source,
        job.target,
        state,
        source_bytes=job.bytes,
        source_changed=job.changed,
        **found,
    )


def _outcome(job: RemoteJob, result: dict[str, Any]) -> RemoteOutcome:
    if "error" in result:
        return RemoteOutcome(job, "failed", result["seconds"], error=result["error"])
    fields: dict[str, Any] = dict(result["report"])
    fields |= {key: tuple(fields[key]) for key in ("lr_size", "sr_size")}  # lists in JSON
    written = RemoteJob(job.source, result["target"], job.bytes, job.changed)
    return RemoteOutcome(written, "done", result["seconds"], Report(**fields))

"""Peak memory of one run in a process of its own, which has never needed more than its inputs.

The operating system only remembers how much a process ever held, so every method gets a fresh one:
it loads torch and the inputs, runs once on a few tokens (libraries, threads and their buffers), and
then once on all. What it held at most, less what it held just before, is the run's own.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hspan.errors import InputError
from hspan.evaluation.bench_attention._features import Features
from hspan.evaluation.bench_attention._methods import METHODS, Direction
from hspan.evaluation.bench_attention._workload import Workload

_WARM_TOKENS = 64


def peak_memory(name: str, features: Features, direction: Direction, threads: int) -> int:
    """Measure the bytes that a method needs beside its inputs, its output among them.

    Args:
        name: of the method, a key of METHODS.
        features: its input.
        direction: what is computed.
        threads: of the fresh process.

    Raises:
        InputError: the process failed, as for want of memory, or this system can't say how much a
            process held.
    """
    with tempfile.TemporaryDirectory(prefix="hspan-bench-") as folder:
        for part in ("query", "key", "value"):
            np.save(Path(folder) / f"{part}.npy", getattr(features, part).numpy())
        task = {
            "method": name,
            "direction": direction,
            "threads": threads,
            "width": features.width,
            "folder": folder,
        }
        code = f"from {__name__} import main; main()"
        run = subprocess.run(
            [sys.executable, "-c", code], input=json.dumps(task), capture_output=True, text=True
        )
    if run.returncode:
        lines = run.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"it ended with status {run.returncode}"
        raise InputError(f"the memory of {name} couldn't be measured: {reason}")
    return int(json.loads(run.stdout)["bytes"])


def main() -> None:
    """Run in the fresh process: a task as JSON on stdin, the measured bytes as JSON on stdout."""
    task = json.load(sys.stdin)
    torch.set_num_threads(task["threads"])
    folder = Path(task["folder"])
    query, key, value = (
        torch.from_numpy(np.load(folder / f"{part}.npy")) for part in ("query", "key", "value")
    )
    features = Features(
        query=query,
        key=key,
        value=value,
        width=task["width"],
        scale=1.0,
        support=0.0,
        support_queries=0,
        source="",
    )
    few = replace(
        features,
        query=query[:, :_WARM_TOKENS].contiguous(),
        key=key[:, :_WARM_TOKENS].contiguous(),
        value=value[:, :_WARM_TOKENS].contiguous(),
        width=None,
    )
    method = METHODS[task["method"]]
    Workload(method, few, task["direction"]).run()
    work = Workload(method, features, task["direction"])
    _forget_peak()
    before = _held()
    kept = work.run()
    peak = _most_held()
    del kept
    print(json.dumps({"bytes": max(0, peak - before)}))


def _most_held() -> int:
    """Bytes of main memory that this process held at most."""
    if (known := _status("VmHWM")) is not None:
        return known
    try:
        import resource
    except ImportError as error:  # Windows
        raise InputError("this system doesn't say how much memory a process held") from error
    # Not on Linux: there, this number begins with the peak of the process that started this one.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _held() -> int:
    """Bytes that it holds now; where the system doesn't say, that it held at most."""
    known = _status("VmRSS")
    return _most_held() if known is None else known


def _status(field: str, path: Path = Path("/proc/self/status")) -> int | None:
    """A field of the kernel's account of this process, in bytes; None outside Linux."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return None


def _forget_peak(path: Path = Path("/proc/self/clear_refs")) -> None:
    """Let the peak begin anew at what is held now, where the system can; else it stays."""
    try:
        path.write_text("5", encoding="ascii")
    except OSError:
        return

"""Memory that one piece of work needs, measured in a process of its own.

The operating system only remembers how much a process ever held, so what is measured gets a fresh
one, which has never needed more than its inputs: it warms up on little and then works once on all.
What it held at most, less what it held just before, is the work's own.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hspan.errors import InputError


def in_fresh_process(module: str, task: dict[str, Any], what: str) -> dict[str, Any]:
    """Run ``main`` of a module, which reads the task from stdin and prints its result, as JSON.

    Args:
        module: dotted name.
        task: values that JSON can hold.
        what: is measured, for the message.

    Raises:
        InputError: the process failed, as for want of memory.
    """
    run = subprocess.run(
        [sys.executable, "-c", f"from {module} import main; main()"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
    )
    if run.returncode:
        lines = run.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"it ended with status {run.returncode}"
        raise InputError(f"the memory of {what} couldn't be measured: {reason}")
    return json.loads(run.stdout)


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that this process held at most during the work, above what it held just before.

    Raises:
        InputError: this system can't say how much a process held.
    """
    _forget_peak()
    before = _held()
    kept = work()
    peak = _most_held()
    del kept
    return max(0, peak - before)


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

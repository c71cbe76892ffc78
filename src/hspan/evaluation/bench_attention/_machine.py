"""What a measurement is worth nothing without: machine, versions, commit, date."""

import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hspan._version import __version__
from hspan.ops._backends import BACKENDS, Call
from hspan.ops._library import chosen_level, library, name_of, why_missing

# What decides how fast products and scans can be; other flags say nothing about this benchmark.
_FLAGS = (
    "sse4_2",
    "avx2",
    "fma",
    "avx512f",
    "avx512bw",
    "avx512dq",
    "avx512vl",
    "avx512_bf16",
    "amx_tile",
    "amx_bf16",
    "asimd",
    "bf16",
    "sve",
)


def describe_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Processor, its instruction sets, cores, and torch's threads and capability.

    Args:
        cpuinfo: where Linux describes the processor; other systems are described by Python.
    """
    fields: dict[str, str] = {}
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(":")
            fields.setdefault(name.strip(), text.strip())
    present = set((fields.get("flags") or fields.get("Features") or "").split())
    return {
        "processor": fields.get("model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "instructions": [flag for flag in _FLAGS if flag in present],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "system": platform.platform(),
    }


def describe_kernel() -> dict[str, Any]:
    """What "auto" computes the attention with here: backend, and compiled instruction set.

    The instruction set is None where the installation has no compiled kernels, and the reason
    stands beside it.
    """
    call = Call("cpu", torch.float32)
    backend = next(name for name, entry in BACKENDS.items() if not entry.why_not(call))
    compiled = library()
    return {
        "backend": backend,
        "instruction_set": compiled and name_of(chosen_level()),
        "no_compiled_kernels": why_missing() or None,
    }


def describe_versions() -> dict[str, str]:
    """Versions of the package and of what it computes with."""
    return {
        "hspan": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def describe_commit(file: Path = Path(__file__)) -> str | None:
    """The commit that the package's files are of, "+" behind it if they were changed since.

    None where they don't come from a checkout.
    """
    try:
        # An environment may lie inside another project's checkout, whose commit says nothing.
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        commit = _git(file.parent, "rev-parse", "HEAD")
        changed = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changed else "")


def _git(folder: Path, *words: str) -> str:
    run = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=30
    )
    return run.stdout.strip()


def now() -> str:
    """Date and time in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def describe_run() -> dict[str, Any]:
    """All of that, and how busy the machine was: the head of a result file."""
    return {
        **describe_machine(),
        **describe_kernel(),
        **describe_versions(),
        "commit": describe_commit(),
        "time": now(),
        "load": os.getloadavg()[0],
    }

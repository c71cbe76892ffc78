"""What this machine offers: the device to run on, the arithmetic it is good at, free memory."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

import torch

from hspan.errors import UsageError

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def choose_device(name: str) -> torch.device:
    """Resolve "auto" to CUDA, else Apple's GPU, else the processor; check any other name.

    Raises:
        UsageError: there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UsageError(
            f"device {name!r} can't be used here ({reason}); try auto or cpu"
        ) from error
    if device.type not in ("cpu", "cuda", "mps", "xpu"):
        raise UsageError(f"device {name!r} computes no images; try auto or cpu")
    return device


def choose_precision(name: str, device: torch.device) -> Precision:
    """Resolve "auto": bf16 where the device multiplies it natively, else fp32.

    Emulated bf16 is slower than fp32, so the processor is asked, not the library.

    Raises:
        UsageError: the name is none of auto, fp32, bf16, fp16.
    """
    if name == "auto":
        return "bf16" if _multiplies_bf16(device) else "fp32"
    if name not in DTYPES:
        raise UsageError(f"unknown precision {name!r}: choose from auto, {', '.join(DTYPES)}")
    return name


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8  # Ampere was the first
    if device.type != "cpu":
        return False
    # Private, but the only way to ask; a version without them gets fp32.
    asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, ask, bool)() for ask in asks)


def available_memory(device: torch.device) -> int:
    """Bytes that can be allocated on the device now without pushing anything out."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + (
            torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        )
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return available_ram()


def available_ram() -> int:
    """Free main memory in bytes, within the limit of the container if there is one."""
    return min(_system_memory(), _container_memory(Path("/sys/fs/cgroup")))


def held_memory(status: Path = Path("/proc/self/status")) -> int:
    """Bytes of main memory that this process holds now; outside Linux, that it held at most."""
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _system_memory(meminfo: Path = Path("/proc/meminfo")) -> int:
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:  # macOS says how much there is, not how much is free: count on half
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):
        return 4 << 30  # Windows: what a small laptop has free


def _container_memory(cgroup: Path) -> int:
    """Room below the memory limit of a control group, version 2; without a limit, no bound."""
    try:
        limit = int((cgroup / "memory.max").read_text())
        return max(0, limit - int((cgroup / "memory.current").read_text()))
    except (OSError, ValueError):  # no such file, or "max"
        return 1 << 62

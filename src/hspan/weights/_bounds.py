"""Bounds on what a checkpoint may make of this machine: it can't promise more than it holds.

A few bytes can describe tensors of terabytes (one number, repeated), an archive that grows a
thousandfold, or a configuration of a billion layers. All of them are found out before memory is
taken for them.
"""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from hspan.errors import HspanError, WeightsError

_GROWTH = 4  # of a file's size; shared tensors may be listed more than once
_SLACK = 1 << 20  # bytes
_MODULES_PER_TENSOR = 16
_FEW = 4096


def check_archive(path: Path) -> None:
    """Refuse a PyTorch file whose records grow when they are unpacked: they are stored as they are.

    Raises:
        WeightsError: as it says.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(record.file_size for record in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # PyTorch will say what is wrong with it
    held = path.stat().st_size
    if size > _GROWTH * held + _SLACK:
        raise WeightsError(
            f"{path} would grow from {held} to {size} bytes when unpacked, which no checkpoint "
            "does: don't trust it"
        )


def check_sizes(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that repeat few numbers many times.

    Raises:
        WeightsError: as it says.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    held = path.stat().st_size
    if size > _GROWTH * held + _SLACK:
        raise WeightsError(
            f"{path} has {held} bytes and claims tensors of {size}, which no checkpoint does: "
            "don't trust it"
        )


@contextmanager
def bounded_by(tensors: Mapping[str, Tensor], source: str) -> Generator[None]:
    """Let networks be built within, but not one of far more parameters than there are tensors.

    It ends at the first parameter too many. That is registered before it is filled, so that its
    memory, though reserved, isn't taken.

    Raises:
        WeightsError: the configuration is impossible.
    """
    numbers = 2 * sum(tensor.numel() for tensor in tensors.values()) + _SLACK
    count = 2 * len(tensors) + _FEW
    modules = _MODULES_PER_TENSOR * count
    here = threading.get_ident()

    def parameter(module: nn.Module, key: str, value: nn.Parameter | None) -> None:
        nonlocal numbers, count
        if threading.get_ident() == here and value is not None:
            numbers, count = numbers - value.numel(), count - 1
            if min(numbers, count) < 0:
                raise _TooLargeError

    def child(module: nn.Module, key: str, value: nn.Module | None) -> None:
        nonlocal modules
        modules -= threading.get_ident() == here
        if modules < 0:
            raise _TooLargeError

    hooks = (
        register_module_parameter_registration_hook(parameter),
        register_module_module_registration_hook(child),
    )
    try:
        yield
    except HspanError:
        raise
    except _TooLargeError as error:
        raise WeightsError(
            f"{source}: its configuration describes a network far larger than its weights"
        ) from error
    except Exception as error:  # whatever torch and Python raise about impossible sizes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{source}: its configuration describes a network that can't be built ({reason})"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()


class _TooLargeError(Exception):
    """More than the file could fill."""

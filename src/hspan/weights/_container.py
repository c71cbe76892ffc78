"""Files that hold tensors, told apart by content, never by name.

They are safetensors, PyTorch's own, and MATLAB's. PyTorch's are opened with
``weights_only=True``: a pickle that holds anything but tensors and plain containers is refused,
never executed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors_torch
from torch import Tensor

from hspan._whole_files import write_bytes
from hspan.errors import InputError, WeightsError
from hspan.weights._bounds import check_archive, check_sizes
from hspan.weights._matlab import MAGIC, MAGIC_HDF5, read_matlab

# Where training programs put the weights inside a checkpoint, best first: averaged weights are
# what their authors evaluate.
WRAPPERS = ("params_ema", "params", "state_dict", "net_state_dict", "model", "net")
# Prefixes that every key of a wrapped network carries: data parallel, torch.compile, and the
# attribute that a training class keeps the network in.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")

_ZIP_MAGIC = b"PK\x03\x04"
_PICKLE_MAGIC = b"\x80"
_MAX_HEADER = 100 << 20  # the safetensors format's own limit


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and the text that the file carries beside them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=lambda: {})


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint on the CPU, without the wrappers that training programs put around it.

    Raises:
        InputError: the file is missing or unreadable.
        WeightsError: it isn't a checkpoint, is damaged, or holds code or no tensors.
    """
    if is_safetensors(path):
        with _opened(path) as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            metadata = file.metadata() or {}
        # Our own files have no wrappers, and none of bicubic's tensors.
        ours = "hspan.model" in metadata
        return Checkpoint(tensors if ours else _unwrapped(tensors, path), metadata)
    head = _first_bytes(path, len(MAGIC))
    if head == MAGIC_HDF5:
        raise WeightsError(
            f"{path} is a MATLAB file in the HDF5 format; save it again with the option -v7"
        )
    if head == MAGIC:
        return Checkpoint(_unwrapped(read_matlab(path), path))
    check_archive(path)
    tensors = _unwrapped(_read_pytorch(path), path)
    check_sizes(tensors, path)
    return Checkpoint(tensors)


def read_metadata(path: Path) -> dict[str, str]:
    """Read only the header of a safetensors file.

    Raises:
        InputError: the file is missing or unreadable.
        WeightsError: it isn't a safetensors file, or is damaged.
    """
    if not is_safetensors(path):
        raise WeightsError(f"{path} isn't a safetensors file")
    with _opened(path) as file:
        return file.metadata() or {}


def is_safetensors(path: Path) -> bool:
    """Look at the first bytes: the header's length, then its opening brace.

    Raises:
        InputError: the file is missing or unreadable.
    """
    head = _first_bytes(path, 9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors with their metadata; the file is there whole or not at all.

    Raises:
        InputError: the folder is missing or the file can't be written.
    """
    write_bytes(path, safetensors_torch.save(dict(tensors), metadata))


def _first_bytes(path: Path, count: int) -> bytes:
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a checkpoint file in it")
    try:
        with path.open("rb") as file:
            return file.read(count)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint file") from None
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or error}") from error


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is a damaged or incomplete safetensors file ({error}); fetch or save it again"
        ) from error


def _read_pytorch(path: Path) -> object:
    head = _first_bytes(path, 4)
    if not head.startswith((_ZIP_MAGIC, _PICKLE_MAGIC)):
        what = "is empty" if not head else "isn't a checkpoint"
        raise WeightsError(
            f"{path} {what}; wanted is a file of weights: .safetensors, .pt, .pth, .mat"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on how old files were written
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise WeightsError(
            f"{path} holds Python objects besides tensors, which could run code, or is damaged; "
            "save its state_dict alone, or as safetensors, and load that"
        ) from error
    except Exception as error:  # torch raises RuntimeError, EOFError, KeyError... by kind of damage
        what = "a TorchScript program, not" if "TorchScript" in str(error) else "not readable as"
        raise WeightsError(
            f"{path} is {what} a PyTorch checkpoint of tensors; if it should be one, it is damaged "
            "or incomplete: fetch or save it again"
        ) from error


def _unwrapped(content: object, path: Path) -> dict[str, Tensor]:
    """Go down into known wrappers, as keys of a dictionary or as prefixes of flat keys."""
    while isinstance(content, Mapping):
        content = cast("Mapping[object, object]", content)
        inner = next((content[w] for w in WRAPPERS if isinstance(content.get(w), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"{path} holds a {type(content).__name__}, not a dictionary of tensors; "
            "save the network's state_dict"
        )
    entries = _flattened(cast("Mapping[object, object]", content))
    tensors = {k: v for k, v in entries.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not tensors or len(tensors) < len(entries):
        found = ", ".join(sorted(str(k) for k in entries)[:5]) or "nothing"
        raise WeightsError(f"{path} holds no plain dictionary of tensors (found: {found})")
    return _without_prefixes(tensors)


def _flattened(content: Mapping[object, object], prefix: str = "") -> dict[object, object]:
    """Dictionaries within dictionaries, such as a set of networks by number, as dotted keys."""
    entries: dict[object, object] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and isinstance(key, str):
            inner = cast("Mapping[object, object]", value)
            entries |= _flattened(inner, f"{prefix}{key}.")
        else:
            entries[f"{prefix}{key}" if isinstance(key, str) else key] = value
    return entries


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for wrapper in WRAPPERS[:3]:  # a flattened dictionary may hold averaged and raw weights
        start = f"{wrapper}."
        if any(key.startswith(start) for key in tensors):
            tensors = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
            break
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in tensors)), None):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors

"""What weights say of themselves: licence and provenance, as far as their file states them."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

from hspan.errors import WeightsError
from hspan.models import MODELS
from hspan.weights._container import is_safetensors, read_metadata
from hspan.weights._load import shipped_weight

_PACKAGE = "Apache-2.0"  # of everything in the package, the shipped weights included


def licence_of(source: str | PathLike[str], scale: int | None = None) -> str | None:
    """What licence the weights that ``load_model(source, scale=scale)`` loads are under.

    Returns:
        ``modelspec.license`` of a safetensors file, the package's licence for shipped weights, or
        None where nothing states one.

    Raises:
        UsageError: ``source`` is a network's name, but no such weights are shipped.
        InputError: the file is missing or unreadable.
    """
    header, shipped = _header(source, scale)
    return header.get("modelspec.license", _PACKAGE if shipped else None)


def provenance_of(source: str | PathLike[str], scale: int | None = None) -> dict[str, Any]:
    """Where those weights come from: ``save_model``'s ``metadata``; empty where nothing says it.

    Raises:
        UsageError, InputError: as ``licence_of``.
        WeightsError: the record is unreadable.
    """
    header, _ = _header(source, scale)
    try:
        content = json.loads(header.get("hspan.provenance", "{}"))
    except json.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise WeightsError(f"{source}: the provenance in its metadata is unreadable")
    return content


def _header(source: str | PathLike[str], scale: int | None) -> tuple[dict[str, str], bool]:
    """A safetensors file's metadata, and whether the file is a shipped one."""
    if isinstance(source, str) and not Path(source).is_file():
        if source in MODELS and not MODELS[source].trained:
            return {}, False
        shipped = shipped_weight(source, scale)
        if shipped is not None:
            return read_metadata(shipped.path), True
    path = Path(source)
    return (read_metadata(path) if is_safetensors(path) else {}), False

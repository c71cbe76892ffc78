"""The licence of weights, as far as anything states it."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

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
    if isinstance(source, str) and not Path(source).is_file():
        if source in MODELS and not MODELS[source].trained:
            return None
        shipped = shipped_weight(source, scale)
        if shipped is not None:
            return read_metadata(shipped.path).get("modelspec.license", _PACKAGE)
    path = Path(source)
    return read_metadata(path).get("modelspec.license") if is_safetensors(path) else None

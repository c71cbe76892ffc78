"""MATLAB's files of weights: variables, structures and cells as nested dictionaries of tensors.

SciPy reads them; it is optional (``pip install 'hspan[matlab]'``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hspan.errors import WeightsError

MAGIC = b"MATLAB 5.0 MAT-file"  # versions 5 to 7 of the format
MAGIC_HDF5 = b"MATLAB 7.3 MAT-file"


def read_matlab(path: Path) -> dict[str, Any]:
    """Read all numbers of a file.

    Returns:
        Tensors by name, in MATLAB's order of dimensions; fields of structures and, numbered from
        0, elements of cells as dictionaries. MatConvNet's list of parameters becomes a dictionary
        by their names, and what else its networks hold (layers, options) is left out, as are text
        and empty arrays.

    Raises:
        WeightsError: SciPy is missing, or the file is damaged.
    """
    try:
        from scipy.io import loadmat  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]
    except ImportError as error:
        raise WeightsError(
            f"{path} is a MATLAB file, which needs SciPy to be read: pip install 'hspan[matlab]'"
        ) from error
    try:
        content: dict[str, Any] = loadmat(path, struct_as_record=False)
    except (
        Exception
    ) as error:  # SciPy raises ValueError, TypeError, zlib.error... by kind of damage
        raise WeightsError(
            f"{path} is a damaged or incomplete MATLAB file ({error}); fetch it again"
        ) from error
    return _numbers({k: _plain(v) for k, v in content.items() if not k.startswith("__")})


def _plain(value: Any) -> Any:
    """A tensor, a text, a dictionary of such; None for what is none of these."""
    names = getattr(value, "_fieldnames", None)
    if names is not None:  # a structure
        if "params" in names and "layers" in names:
            return _plain(value.params)
        return {name: _plain(getattr(value, name)) for name in names}
    if not isinstance(value, np.ndarray):
        return None
    if value.dtype == object:  # cells, or an array of structures
        items = [_plain(item) for item in value.ravel(order="F")]
        if len(items) == 1:
            return items[0]
        if items and all(isinstance(i, dict) and isinstance(i.get("name"), str) for i in items):
            return {item["name"]: item.get("value") for item in items}
        return {str(i): item for i, item in enumerate(items)}
    if value.dtype.kind == "U":
        return str(value.item()) if value.size == 1 else None
    if value.dtype.kind in "fiu" and value.size:
        return torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))
    return None


def _numbers(entries: dict[str, Any]) -> dict[str, Any]:
    """Dictionaries of tensors without texts and what is None."""
    inner = {k: _numbers(v) if isinstance(v, dict) else v for k, v in entries.items()}
    return {
        k: v for k, v in inner.items() if isinstance(v, torch.Tensor) or (isinstance(v, dict) and v)
    }

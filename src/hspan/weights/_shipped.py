"""The weights that come with the package, known from the headers of their files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from hspan.errors import WeightsError
from hspan.weights._container import read_metadata
from hspan.weights._hash import SHORT

FOLDER = Path(str(files("hspan"))) / "pretrained"


@dataclass(frozen=True, kw_only=True)
class ShippedWeight:
    """One file of weights in the package."""

    model: str
    scale: int
    kind: str  # degradation that it was trained for: "BI" or "BD"
    path: Path
    bytes: int
    hash: str  # of the weights (weights_hash), not of the file
    config: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def name(self) -> str:
        """The file's name without its suffix: ``2x_hspan-light``."""
        return self.path.stem

    @property
    def sha256(self) -> str:
        """SHA-256 of the file; reads all of it."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


def shipped_weights() -> dict[str, ShippedWeight]:
    """List the weights in the package, by file name (``2x_hspan-light``); reads headers only.

    Raises:
        WeightsError: a file of the installation is damaged.
    """
    return {path.stem: _described(path) for path in sorted(FOLDER.glob("*.safetensors"))}


def _described(path: Path) -> ShippedWeight:
    header = read_metadata(path)
    try:
        config: dict[str, Any] = json.loads(header["hspan.config"])
        return ShippedWeight(
            model=header["hspan.model"],
            scale=config["scale"],
            kind="BD" if path.stem.endswith("_BD") else "BI",
            path=path,
            bytes=path.stat().st_size,
            hash=header["hspan.hash"][:SHORT],
            config=config,
            provenance=json.loads(header["hspan.provenance"]),
        )
    except (KeyError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path} lacks or garbles {error}; reinstall the package") from error

"""What is measured beside the published numbers: bicubic, the shipped weights, a user's own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from hspan.errors import HspanError, InputError
from hspan.models import registry_name
from hspan.reproduce._job import Job
from hspan.weights import load_model, shipped_weights, weights_hash
from hspan.weights._container import read_metadata

SUFFIXES = (".safetensors", ".pt", ".pth", ".mat")


@dataclass(frozen=True)
class Contestant:
    """Something that upscales.

    Attributes:
        title: in tables and under pictures.
        name: "bicubic", or in the registry of networks.
        network: in eval mode on the processor; None for bicubic.
        weights: a hash; "none" for bicubic.
        origin: "shipped" or the file's name.
    """

    title: str
    name: str
    network: nn.Module | None
    weights: str
    origin: str

    @property
    def model(self) -> nn.Module | str:
        """As ``hspan.evaluation.evaluate`` takes it."""
        return self.name if self.network is None else self.network

    @property
    def parameters(self) -> int:
        """Trainable ones."""
        network = self.network
        return 0 if network is None else sum(p.numel() for p in network.parameters())


BICUBIC = Contestant("Bicubic", "bicubic", None, "none", "MATLAB's imresize")


def find_contestants(
    job: Job, scale: int, kind: str = "BI", *, shipped: bool = True
) -> tuple[list[Contestant], dict[str, str]]:
    """Networks with weights for a scale and a degradation.

    Args:
        job: names the user's files.
        scale: upscaling factor.
        kind: "BI" or "BD". A file says for what it was trained in its metadata or, with ``BD``, in
            its name; others count as BI.
        shipped: the package's own too.

    Returns:
        The networks, and for every file that can't be used why.

    Raises:
        InputError: a file or folder that was named doesn't exist.
    """
    found: list[Contestant] = []
    refused: dict[str, str] = {}
    sources = [(w.path, "shipped") for w in shipped_weights().values() if shipped]
    sources += [(path, path.name) for path in _files(job.weights)]
    for path, origin in sources:
        try:
            trained_for = _kind(path)
            fits = trained_for == kind
            if origin == "shipped" and not (fits and path.name.startswith(f"{scale}x_")):
                continue
            if not fits:
                refused[path.name] = f"trained for {trained_for}"
                continue
            network = load_model(path, scale=scale, device="cpu")
        except HspanError as error:
            refused[path.name] = str(error)
            continue
        name = registry_name(network)
        alike = sum(other.name == name for other in found)
        title = f"{name} ({path.stem})" if alike else name
        found.append(Contestant(title, name, network, weights_hash(network), origin))
    return found, refused


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"{path}: no such checkpoint or folder")
    return files


def _kind(path: Path) -> str:
    if path.suffix == ".safetensors":
        provenance = read_metadata(path).get("hspan.provenance")
        if provenance:
            return json.loads(provenance).get("recipe", {}).get("data", {}).get("kind", "BI")
    return "BD" if "BD" in path.stem.upper() else "BI"

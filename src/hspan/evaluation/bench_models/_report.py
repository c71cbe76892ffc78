"""What a measurement of networks found, as data."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hspan.errors import InputError
from hspan.evaluation._multiply_adds import MultiplyAdds

SCHEMA = "hspan.bench.models/1"


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """One network on images of one size.

    Attributes:
        model: as it was named: in the registry, or a file.
        network: its name in the registry, or its class's.
        weights: "random" or the name of the file.
        parameters: trainable.
        multiply_adds: of one forward pass at this size.
        milliseconds: median of the repetitions.
        best_milliseconds: the shortest.
        repetitions: how many there were.
        ratio: milliseconds / those of the first network; below 1 where this one is faster.
        extra_mib: most memory held beside weights and input, output included, in MiB.
        skipped: why there are no times.
        memory_skipped: why there is no memory.
    """

    model: str
    network: str
    weights: str = "random"
    parameters: int | None = None
    multiply_adds: MultiplyAdds | None = None
    milliseconds: float | None = None
    best_milliseconds: float | None = None
    repetitions: int = 0
    ratio: float | None = None
    extra_mib: float | None = None
    skipped: str | None = None
    memory_skipped: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelCase:
    """All networks on images of one size.

    Attributes:
        scale: upscaling factor.
        height: of the LR image.
        width: of the LR image.
        results: one per network, in the order in which they were named.
    """

    scale: int
    height: int
    width: int
    results: tuple[ModelResult, ...]


@dataclass(frozen=True, kw_only=True)
class ModelsReport:
    """Everything that was measured, and on what."""

    date: str
    commit: str | None
    machine: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    protocol: tuple[str, ...]
    cases: tuple[ModelCase, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, with the schema's name first."""
        return {"schema": SCHEMA, **asdict(self)}


def models_report_from_json(path: Path) -> ModelsReport:
    """Read what ``ModelsReport.to_json`` was written to.

    Raises:
        InputError: the file holds something else.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.pop("schema", None) != SCHEMA:
        raise InputError(f"{path} doesn't hold {SCHEMA}")
    cases: list[ModelCase] = []
    for case in content.pop("cases"):
        results = tuple(_result(result) for result in case.pop("results"))
        cases.append(ModelCase(results=results, **case))
    content["protocol"] = tuple(content["protocol"])
    return ModelsReport(cases=tuple(cases), **content)


def _result(entry: dict[str, Any]) -> ModelResult:
    counted = entry.pop("multiply_adds")
    return ModelResult(**entry, multiply_adds=None if counted is None else MultiplyAdds(**counted))

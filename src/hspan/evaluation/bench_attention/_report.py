"""What a measurement of attention found, as data."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hspan._whole_files import write_text
from hspan.errors import InputError

SCHEMA = "hspan.bench.attention/1"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One method on one input.

    Attributes:
        method: its name in METHODS.
        title: what tables and legends call it.
        milliseconds: median of the repetitions; scaled to all queries where extrapolated.
        best_milliseconds: the shortest, scaled alike.
        repetitions: how many there were.
        rows: queries that were computed, spread evenly over all.
        extrapolated: rows are fewer than all, and the times were multiplied by all / rows.
        tile: queries handed to the method at a time; None: all at once, as it is meant.
        ratio: milliseconds / those of "ours"; above 1 where ours is faster.
        relative_error: Frobenius norm of the difference from float64 over that of float64's
            result, on a subset of queries; None for what computes something else.
        extra_mib: most memory held beside the inputs, output included, in MiB.
        skipped: why there are no times.
        memory_skipped: why there is no memory.
    """

    method: str
    title: str
    milliseconds: float | None = None
    best_milliseconds: float | None = None
    repetitions: int = 0
    rows: int = 0
    extrapolated: bool = False
    tile: int | None = None
    ratio: float | None = None
    relative_error: float | None = None
    extra_mib: float | None = None
    skipped: str | None = None
    memory_skipped: str | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """One input, one direction, all methods.

    Attributes:
        tokens: N.
        features: "photo", "network" or "gaussian".
        direction: "forward", "forward+saved" or "forward+backward".
        target_support: the mean T that was asked for; None where it is the features' own.
        query_channels: C.
        value_channels: D.
        support: the mean T, measured.
        support_queries: how many queries that is over.
        scale: factor of the scores.
        source: what the features were made from.
        error_rows: queries that relative errors are over.
        results: one per method.
        skipped: why there are no features, and so no results.
    """

    tokens: int
    features: str
    direction: str
    target_support: float | None
    query_channels: int | None = None
    value_channels: int | None = None
    support: float | None = None
    support_queries: int | None = None
    scale: float | None = None
    source: str | None = None
    error_rows: int = 0
    results: tuple[Result, ...] = ()
    skipped: str | None = None

    def result(self, method: str) -> Result | None:
        """The result of one method, if it was among them."""
        return next((r for r in self.results if r.method == method), None)


@dataclass(frozen=True, kw_only=True)
class AttentionReport:
    """Everything that was measured, and on what."""

    date: str
    commit: str | None
    machine: dict[str, Any]
    versions: dict[str, str]
    settings: tuple[dict[str, Any], ...]
    protocol: tuple[str, ...]
    cases: tuple[Case, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, with the schema's name first."""
        return {"schema": SCHEMA, **asdict(self)}

    def save(self, path: Path) -> None:
        """Write it as JSON, in place of the file that may be there.

        Raises:
            InputError: the file can't be written.
        """
        text = json.dumps(self.to_json(), indent=1, allow_nan=False, ensure_ascii=False)
        write_text(path, text + "\n")


def report_from_json(path: Path) -> AttentionReport:
    """Read what ``AttentionReport.to_json`` was written to.

    Raises:
        InputError: the file holds something else.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.pop("schema", None) != SCHEMA:
        raise InputError(f"{path} doesn't hold {SCHEMA}")
    cases: list[Case] = []
    for case in content.pop("cases"):
        results = tuple(Result(**result) for result in case.pop("results"))
        cases.append(Case(results=results, **case))
    for name in ("settings", "protocol"):
        content[name] = tuple(content[name])
    return AttentionReport(cases=tuple(cases), **content)

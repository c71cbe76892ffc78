"""The scores printed in the paper: Table II (BI) and Table III (BD), as data.

The CSV files hold every row of both tables; the ``note`` column says which cells were illegible in
the scan and come from the literature. A blank cell is one that the paper leaves blank.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from hspan.errors import UsageError

TABLES = {"BI": "table2_bi.csv", "BD": "table3_bd.csv"}
# Other names under which the paper's test sets are kept on disk.
ALIASES = {"bsd100": "B100", "bsds100": "B100", "manga": "Manga109"}
# Networks of the registry whose name isn't the tables'.
METHODS = {"oisr-rk3": "OISR"}


@dataclass(frozen=True)
class Score:
    """PSNR in decibels and SSIM in [-1, 1], both on Y; None where the paper is silent."""

    psnr: float | None
    ssim: float | None


@dataclass(frozen=True)
class PublishedRow:
    """One row of Table II or III."""

    method: str
    scale: int
    kind: str
    scores: Mapping[str, Score]  # by the data set's name in the paper
    note: str

    def score(self, dataset: str) -> Score | None:
        """The score on a data set, whatever the case or alias of its name; None if absent."""
        wanted = ALIASES.get(dataset.lower(), dataset).lower()
        return next((s for name, s in self.scores.items() if name.lower() == wanted), None)


def published_rows(
    scale: int | None = None, kind: str = "BI", method: str | None = None
) -> list[PublishedRow]:
    """Rows of the paper's tables, in its order.

    Args:
        scale: only this scale; None is all of them.
        kind: "BI" for Table II, "BD" for Table III.
        method: only this method, in any case.

    Raises:
        UsageError: unknown kind.
    """
    if kind not in TABLES:
        raise UsageError(f"kind must be {' or '.join(TABLES)}, got {kind!r}")
    return [
        row
        for row in _table(kind)
        if (scale is None or row.scale == scale)
        and (method is None or row.method.lower() == method.lower())
    ]


def published_row(name: str, scale: int, kind: str = "BI") -> PublishedRow | None:
    """The row of exactly this network of the registry; None where the tables have none."""
    rows = published_rows(scale, kind, METHODS.get(name, name))
    return rows[0] if rows else None


def reference_rows(model: str, scale: int, kind: str, *, ensemble: bool) -> list[PublishedRow]:
    """What to print beside a model's scores: bicubic, then the row of the model's own family.

    A variant that the tables lack is set beside its family's row (``hspan-light`` beside HSPAN),
    and a self-ensemble beside the row with a plus where there is one.
    """
    rows = published_rows(scale, kind, "Bicubic")
    family = model.split("-")[0]
    for name in ([f"{model}+", f"{family}+"] if ensemble else []) + [model, family]:
        if own := [r for r in published_rows(scale, kind, name) if r.method != "Bicubic"]:
            return rows + own
    return rows


@cache
def _table(kind: str) -> tuple[PublishedRow, ...]:
    source = files("hspan.evaluation") / "published" / TABLES[kind]
    lines = source.read_text(encoding="utf-8").splitlines()
    return tuple(_row(cells) for cells in csv.DictReader(lines))


def _row(cells: dict[str, str]) -> PublishedRow:
    names = [key.removesuffix("_psnr") for key in cells if key.endswith("_psnr")]
    scores = {n: Score(_number(cells[f"{n}_psnr"]), _number(cells[f"{n}_ssim"])) for n in names}
    return PublishedRow(
        method=cells["method"],
        scale=int(cells["scale"]),
        kind=cells["degradation"],
        scores=MappingProxyType({n: s for n, s in scores.items() if s != Score(None, None)}),
        note=cells["note"],
    )


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


def published_ablation() -> Mapping[str, float]:
    """Table I: Set5 ×2 PSNR in dB after at most 50,000 steps, by variant, in the paper's order."""
    rows = _read_csv("table1.csv")
    return MappingProxyType({row["variant"]: float(row["Set5_x2_psnr"]) for row in rows})


@dataclass(frozen=True)
class PublishedGain:
    """What HSPA in another network, or soft thresholding for its softmax, is published to gain."""

    network: str
    change: str  # "hspa" (Fig. 7) or "soft-threshold" (Fig. 8)
    gain: float | None  # dB; None where it can only be read off the figure
    parameters: int | None  # of the network without it
    added: int | None
    note: str


def published_gains(change: str) -> list[PublishedGain]:
    """Figs. 7 and 8.

    Args:
        change: "hspa" or "soft-threshold".
    """
    return [
        PublishedGain(
            network=row["network"],
            change=row["change"],
            gain=_number(row["gain_db"]),
            parameters=int(row["parameters"]) if row["parameters"] else None,
            added=int(row["added_parameters"]) if row["added_parameters"] else None,
            note=row["note"],
        )
        for row in _read_csv("transplants.csv")
        if row["change"] == change
    ]


def _read_csv(name: str) -> list[dict[str, str]]:
    source = files("hspan.evaluation") / "published" / name
    return list(csv.DictReader(source.read_text(encoding="utf-8").splitlines()))

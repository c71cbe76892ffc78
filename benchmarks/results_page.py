"""docs/results.md from the evaluations of shipped weights and the paper's own tables.

    python benchmarks/results_page.py > docs/results.md

Measured rows come from ``benchmarks/results/?x_*.json``, what ``hspan eval --json`` said of the
shipped weights, published ones from the package; a test compares the page with what this prints.
"""

import json
from pathlib import Path

from hspan.evaluation import published_rows

ROOT = Path(__file__).parents[1]
SETS = ("Set5", "Set14", "B100", "Urban100", "Manga109")


def cell(psnr: float | None, ssim: float | None) -> str:
    if psnr is None:
        return "–"
    return f"{psnr:.2f}" if ssim is None else f"{psnr:.2f} / {ssim:.4f}"


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(first: str, rows: list[list[str]]) -> list[str]:
    return [line([first, *SETS]), line(["---"] * (1 + len(SETS))), *map(line, rows)]


def measured() -> list[list[str]]:
    rows: list[list[str]] = []
    for path in sorted((ROOT / "benchmarks" / "results").glob("?x_*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))["evaluation"]
        found = {data["name"]: cell(data["psnr"], data["ssim"]) for data in run["datasets"]}
        title = f"{run['model']} ×{run['scale']}, {run['kind']}"
        rows.append([title, *(found.get(name, "–") for name in SETS)])
    return rows


def page() -> str:
    lines = [
        "# Scores",
        "",
        "PSNR in dB and SSIM on Y, under the [protocol](benchmarks.md#protocol). This page is",
        "written by `benchmarks/results_page.py`; networks are compared by what they were trained",
        "on as much as by what they are.",
        "",
        "## Measured here: the shipped weights",
        "",
        *table("weights", measured()),
    ]
    for kind, number, scales in (("BI", "II", (2, 3, 4)), ("BD", "III", (3,))):
        for scale in scales:
            rows = [
                [
                    row.method,
                    *(cell(s.psnr, s.ssim) if (s := row.scores.get(n)) else "–" for n in SETS),
                ]
                for row in published_rows(scale, kind)
            ]
            title = f"## Published: Table {number}, {kind} ×{scale}"
            lines += ["", title, "", *table("network", rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")

"""A finished experiment on disk, and all of them on one page.

``results/NAME/`` holds ``report.md``, ``report.json`` (everything, with settings, hashes of the
data, machine and versions), ``settings.toml`` (to run the same again, or with one line changed), a
CSV and a LaTeX file for every table, and pictures as PNG and SVG. ``results/report.html`` shows
every experiment that lies beside it, with the pictures inside the one file.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hspan._whole_files import write_text
from hspan.evaluation.bench_attention._machine import (
    describe_commit,
    describe_machine,
    describe_versions,
    now,
)
from hspan.reproduce._benchmarks import Dataset
from hspan.reproduce._blocks import (
    Block,
    Table,
    Text,
    as_json,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
)
from hspan.reproduce._job import Job
from hspan.reproduce._settings import settings_toml

SCHEMA = "hspan.reproduce/1"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What an experiment found.

    Attributes:
        title: a line.
        settings: the experiment's dataclass.
        blocks: what a reader sees, in order.
        results: the numbers behind it, for programs.
        data: images that were used, by name.
    """

    title: str
    settings: Any
    blocks: tuple[Block, ...]
    results: dict[str, Any]
    data: Mapping[str, dict[str, object]] = field(default_factory=dict[str, dict[str, object]])


def described(*datasets: Dataset) -> dict[str, dict[str, object]]:
    """Data sets as ``Report.data`` wants them."""
    return {dataset.name: dataset.as_json() for dataset in datasets}


def save_report(report: Report, job: Job) -> Path:
    """Write everything but the pictures, which are there already.

    Returns:
        The Markdown file.

    Raises:
        InputError: the folder can't be written.
    """
    machine = describe_machine()
    settings = settings_toml(report.settings)
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "name": job.name,
        "title": report.title,
        "budget": job.budget,
        "date": now(),
        "commit": describe_commit(),
        "machine": machine,
        "versions": describe_versions(),
        "settings": settings,
        "data": dict(report.data),
        "results": report.results,
        "blocks": [as_json(block) for block in report.blocks],
    }
    text = to_markdown([Text(f"# {report.title}"), Text(_origin(content)), *report.blocks])
    text += f"\n**Settings** (`settings.toml`)\n\n```toml\n{settings}```\n"
    texts = {"report.md": text, "settings.toml": settings}
    texts["report.json"] = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    for block in report.blocks:
        if isinstance(block, Table):
            texts |= {f"{block.name}.csv": to_csv(block), f"{block.name}.tex": to_latex(block)}
    for name, words in texts.items():
        write_text(job.folder / name, words, parents=True)
    return job.folder / "report.md"


def save_page(out: Path) -> Path:
    """Write ``report.html`` from every report under ``out``, in the order of the paper.

    Raises:
        InputError: the file can't be written.
    """
    from hspan.reproduce._experiments import EXPERIMENTS

    contents: list[dict[str, Any]] = []
    for name in EXPERIMENTS:
        path = out / name / "report.json"
        if path.exists():
            contents.append(json.loads(path.read_text(encoding="utf-8")))
    links = "".join(
        f'<li><a href="#{c["name"]}">{html.escape(c["title"])}</a> ({c["budget"]})</li>'
        for c in contents
    )
    sections = "\n".join(_section(c, out / c["name"]) for c in contents)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>High-Similarity-Pass Attention, reproduced</title><style>{_STYLE}</style></head>
<body><h1>High-Similarity-Pass Attention, reproduced</h1>
<p>Figures and tables of “High-Similarity-Pass Attention for Single Image Super-Resolution”
(arXiv 2305.15768), each from <code>hspan reproduce NAME</code>; published numbers stand beside
measured ones and are marked.</p><ul>{links}</ul>
{sections}
</body></html>
"""
    write_text(out / "report.html", page, parents=True)
    return out / "report.html"


def _origin(content: dict[str, Any]) -> str:
    machine, versions = content["machine"], content["versions"]
    commit = f", commit {content['commit'][:12]}" if content["commit"] else ""
    data = "; ".join(
        f"{name}: {entry['images']} images, sha256 {str(entry['sha256'])[:12]}"
        for name, entry in content["data"].items()
    )
    return (
        f"Budget **{content['budget']}**, {content['date']}, {machine['processor']} "
        f"({machine['threads']} of {machine['cores']} cores), "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + commit
        + (f". Data: {data}." if data else ".")
    )


def _section(content: dict[str, Any], folder: Path) -> str:
    origin = to_html([as_json(Text(_origin(content)))], folder)
    return (
        f'<section id="{content["name"]}"><h2>{html.escape(content["title"])}</h2>{origin}'
        f"{to_html(content['blocks'], folder)}"
        f"<details><summary>Settings</summary><pre>{html.escape(content['settings'])}</pre>"
        "</details></section>"
    )


_STYLE = """
body{font:16px/1.5 Georgia,serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h1,h2{font-family:Helvetica,Arial,sans-serif;line-height:1.2}
section{border-top:1px solid #ccc;margin-top:2.5rem}
figure{margin:1.5rem 0}img{max-width:100%;height:auto}figcaption{font-size:.9rem;color:#444}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;margin:1rem 0}
caption{text-align:left;font-weight:bold;padding-bottom:.3rem}
th,td{padding:.15rem .6rem;border-bottom:1px solid #ddd;text-align:left;white-space:nowrap}
thead th{border-bottom:2px solid #444}.number{text-align:right;font-variant-numeric:tabular-nums}
pre{font-size:.8rem;background:#f6f6f6;padding:.6rem;overflow-x:auto}
"""

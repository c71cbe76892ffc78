"""What a report consists of: sentences, tables and pictures, in Markdown, CSV, LaTeX and HTML."""

from __future__ import annotations

import base64
import csv
import html
import io
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Text:
    """A paragraph; ``**strong**`` and `` `code` `` are all the markup there is."""

    text: str


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the number behind it.

    Attributes:
        text: shown.
        value: written to CSV files; None writes the text.
        strong: drawn bold.
    """

    text: str
    value: float | int | None = None
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its CSV and LaTeX files.
        caption: above it.
        header: one word or more for each column.
        rows: as many cells in each.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A picture in the experiment's folder, as ``STEM.png`` and ``STEM.svg``."""

    stem: str
    caption: str


Block = Text | Table | Picture


def number(value: float | None, digits: int, *, sign: bool = False, strong: bool = False) -> Cell:
    """A cell with a rounded number; a dash for none."""
    if value is None:
        return Cell("–")
    shown = round(value, digits) + 0.0  # adding 0 drops the sign of zero
    return Cell(f"{shown:{'+' if sign else ''}.{digits}f}", value, strong)


def count(value: int | None) -> Cell:
    """A cell with a whole number."""
    return Cell("–") if value is None else Cell(f"{value:,}", value)


def plural(value: int, word: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{value:,} {word}" if value == 1 else f"{value:,} {word}s"


def cells(*items: str | Cell) -> tuple[Cell, ...]:
    """A row of words and cells."""
    return tuple(Cell(item) if isinstance(item, str) else item for item in items)


def to_markdown(blocks: Sequence[Block]) -> str:
    """The blocks as Markdown, with tables in pipes and pictures by name."""
    parts: list[str] = []
    for block in blocks:
        if isinstance(block, Text):
            parts.append(block.text)
        elif isinstance(block, Picture):
            parts.append(f"![{block.caption}]({block.stem}.png)\n\n*{block.caption}*")
        else:
            lines = [_pipes(block.header), _pipes(["---"] * len(block.header))]
            for row in block.rows:
                lines.append(_pipes([f"**{c.text}**" if c.strong else c.text for c in row]))
            parts.append(f"**{block.caption}**\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def to_csv(table: Table) -> str:
    """The unrounded numbers of a table."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.header)
    for row in table.rows:
        writer.writerow([c.text if c.value is None else c.value for c in row])
    return buffer.getvalue()


def to_latex(table: Table) -> str:
    """A ``tabular`` with rules of booktabs."""
    columns = "l" + "r" * (len(table.header) - 1)
    lines = [
        f"% {table.caption}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(_tex, table.header)) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        words = [rf"\textbf{{{_tex(c.text)}}}" if c.strong else _tex(c.text) for c in row]
        lines.append(" & ".join(words) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def to_html(blocks: Sequence[dict[str, Any]], folder: Path) -> str:
    """Blocks as ``as_json`` gives them, with the pictures inside."""
    parts: list[str] = []
    for block in blocks:
        if block["kind"] == "text":
            parts.append(f"<p>{_inline(block['text'])}</p>")
        elif block["kind"] == "picture":
            source = _embedded(folder / f"{block['stem']}.png")
            caption = _inline(block["caption"])
            image = f'<img alt="{html.escape(block["caption"])}" src="{source}">'
            parts.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
        else:
            head = "".join(f"<th>{html.escape(word)}</th>" for word in block["header"])
            rows = "".join(f"<tr>{''.join(map(_td, row))}</tr>" for row in block["rows"])
            parts.append(
                f'<div class="wide"><table><caption>{_inline(block["caption"])}</caption>'
                f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
            )
    return "\n".join(parts)


def as_json(block: Block) -> dict[str, Any]:
    """Plain values, with the block's kind first."""
    return {"kind": type(block).__name__.lower(), **asdict(block)}


def _pipes(words: Sequence[str]) -> str:
    return "| " + " | ".join(word.replace("|", r"\|") for word in words) + " |"


_TEX = {
    "%": r"\%",
    "_": r"\_",
    "&": r"\&",
    "#": r"\#",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "≤": r"$\leq$",
    "κ": r"$\kappa$",
    "−": "$-$",
    "✓": r"\checkmark",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def _td(cell: dict[str, Any]) -> str:
    text = html.escape(cell["text"])
    kind = ' class="number"' if cell["value"] is not None else ""
    return f"<td{kind}>{f'<b>{text}</b>' if cell['strong'] else text}</td>"


def _inline(text: str) -> str:
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(text))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", text)


def _embedded(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"

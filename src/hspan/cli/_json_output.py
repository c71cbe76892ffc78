"""``--json FILE``: what a command found, for programs; ``-`` is stdout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def check_json(target: str | None) -> None:
    """Raise UsageError where FILE can't be: before minutes of work, not after them."""
    from hspan.errors import UsageError

    if target is not None and target != "-" and not Path(target).parent.is_dir():
        raise UsageError(f"--json {target}: there is no folder {Path(target).parent}")


def write_json(content: dict[str, Any], target: str) -> None:
    """Print it, or write the file whole.

    Raises:
        InputError: the file can't be written.
    """
    from hspan._whole_files import write_text

    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    if target == "-":
        print(text)
    else:
        write_text(Path(target), text + "\n")

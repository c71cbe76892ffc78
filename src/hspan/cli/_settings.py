"""KEY=VALUE words of a command line as a network's settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def read_settings(words: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE, with values as in JSON, ``none``, and bare words as text.

    Raises:
        UsageError: a word isn't KEY=VALUE.
    """
    import json

    from hspan.errors import UsageError

    found: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not (equals and key.isidentifier()):
            raise UsageError(f"{word!r} is no setting; write key=value")
        try:
            found[key] = None if text == "none" else json.loads(text)
        except json.JSONDecodeError:
            found[key] = text
    return found

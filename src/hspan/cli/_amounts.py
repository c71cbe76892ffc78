"""Amounts of memory and time as people write them: 2G, 800M, 90s, 10m."""

import re

from hspan.errors import UsageError

_BYTES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SECONDS = {"": 1, "S": 1, "M": 60, "H": 3600}


def parse_bytes(text: str) -> int:
    """Bytes of "2G", "1.5 GB", "800M", "1Gi" or a plain number.

    Raises:
        UsageError: no amount above 0.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text, re.IGNORECASE)
    amount = 0.0
    if found:
        number, unit, binary = found.groups()
        step = _BYTES[unit.upper()]
        amount = float(number) * (2 ** (10 * list(_BYTES.values()).index(step)) if binary else step)
    if amount < 1:
        raise UsageError(f"an amount of memory is like 2G or 800M, got {text!r}")
    return int(amount)


def parse_seconds(text: str) -> float:
    """Seconds of "90", "90s", "10m" or "2h".

    Raises:
        UsageError: no amount above 0.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text, re.IGNORECASE)
    seconds = float(found[1]) * _SECONDS[found[2].upper()] if found else 0.0
    if seconds <= 0:
        raise UsageError(f"a time is like 90s, 10m or 2h, got {text!r}")
    return seconds

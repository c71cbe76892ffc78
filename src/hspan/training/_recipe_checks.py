"""What every value of a recipe has to pass: its type, its size, and names that exist."""

import difflib
import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, cast, get_args, get_origin

from hspan.errors import UsageError

_LARGEST_INTEGER = 2**53  # every one up to here is a float too
_LARGEST_NETWORK = 2**16  # channels, blocks, ...: beyond, building it would never end


def check(value: Any, hint: Any, where: str) -> Any:
    """Return the value in the wanted type, or say what is wanted."""
    if get_origin(hint) in (Union, types.UnionType):
        wanted = next(option for option in get_args(hint) if option is not type(None))
        return None if value is None else check(value, wanted, where)
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        if isinstance(value, list) and parts[-1] is Ellipsis:
            return tuple(check(v, parts[0], where) for v in cast(list[Any], value))
        if parts[-1] is Ellipsis:
            raise UsageError(f"{where} must be a list, got {value!r}")
        if isinstance(value, list) and len(cast(list[Any], value)) == len(parts):
            each = zip(cast(list[Any], value), parts, strict=True)
            return tuple(check(v, part, where) for v, part in each)
        raise UsageError(f"{where} must be {len(parts)} values, got {value!r}")
    if type(value) is int and abs(value) > _LARGEST_INTEGER:
        raise UsageError(f"{where} is absurdly large")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise UsageError(f"{where} must be of type {hint.__name__}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where} must be a finite number, got {value}")
    return value


def plain(value: Any, where: str) -> Any:
    """A setting of a network: what every one of them consists of, in sizes that can be."""
    if isinstance(value, list):
        return [plain(item, where) for item in cast(list[Any], value)]
    if type(value) not in (bool, int, float, str):
        raise UsageError(f"{where} must be numbers, text or a list of them, got {value!r}")
    if type(value) is int and abs(value) > _LARGEST_NETWORK:
        raise UsageError(f"{where} must be at most {_LARGEST_NETWORK}, got {value}")
    return check(value, type(value), where)


def at_most(section: Any, table: str, **limits: int) -> None:
    """Refuse values of a section above their limits."""
    for name, limit in limits.items():
        if getattr(section, name) > limit:
            raise UsageError(f"{table}.{name} must be at most {limit}")


def positive(section: Any, table: str, *names: str) -> None:
    """Refuse values of a section that aren't above 0."""
    for name in names:
        if getattr(section, name) <= 0:
            raise UsageError(f"{table}.{name} must be above 0, got {getattr(section, name)}")


def unknown(what: str, name: str, valid: Sequence[str] | Mapping[str, Any]) -> str:
    """A sentence about a name that doesn't exist, with those that come close."""
    close = difflib.get_close_matches(name, list(valid), n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(valid)}"
    return f"unknown {what} {name!r}; {hint}"

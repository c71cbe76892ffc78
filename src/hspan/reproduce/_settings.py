"""Settings of an experiment: a packaged TOML file with a table for each budget.

Keys at the top hold for every budget; ``[quick]``, ``[day]`` and ``[paper]`` change some of them.
An experiment declares its keys as a frozen dataclass without defaults, so that every value stands
in the file. Keys that don't exist are errors, as in recipes.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from hspan.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:  # the same parser under its older name
    import tomli as tomllib  # pyright: ignore[reportMissingImports] (absent on newer versions)

BUDGETS = ("quick", "day", "paper")
S = TypeVar("S")
_BARE = re.compile(r"[A-Za-z0-9_-]+")  # keys that TOML takes without quotation marks


def load_settings(
    cls: type[S],
    name: str,
    budget: str,
    overrides: Sequence[str] = (),
    file: Path | None = None,
) -> S:
    """Read the settings of an experiment for a budget.

    Args:
        cls: the experiment's dataclass.
        name: of the packaged file.
        budget: "quick", "day" or "paper".
        overrides: words like ``draws=200`` or ``recipe.training.max_steps=200``; later ones win.
        file: read instead of the packaged file: a copy of that, or the ``settings.toml`` that an
            earlier run left beside its report.

    Raises:
        UsageError: unknown budget or key, a value of the wrong type, or a file that can't be read.
    """
    if budget not in BUDGETS:
        raise UsageError(f"the budget is {', '.join(BUDGETS)}, got {budget!r}")
    tables = _read(name, file)
    budgets = {key: tables.pop(key, {}) for key in BUDGETS}
    _merge(tables, budgets[budget])
    known = {f.name for f in fields(cast(Any, cls))}
    for word in overrides:
        _override(tables, word, known, name)
    for key in tables:
        if key not in known:
            raise UsageError(_unknown(name, key, known))
    if missing := sorted(known - tables.keys()):
        raise UsageError(f"the settings of {name} lack {', '.join(missing)}")
    hints = get_type_hints(cls)
    return cls(
        **{key: _check(value, hints[key], f"{name}: {key}") for key, value in tables.items()}
    )


def settings_toml(settings: object) -> str:
    """The text of a file that ``load_settings`` reads as these settings, whatever the budget."""
    return _table("", _without_none(asdict(cast(Any, settings)))).lstrip()


def _read(name: str, file: Path | None) -> dict[str, Any]:
    try:
        if file is None:
            source = files("hspan.reproduce") / "settings" / f"{name}.toml"
            text = source.read_text(encoding="utf-8")
        else:
            text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't read the settings {file}: {error}") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the settings {file} aren't valid TOML: {error}") from error


def _merge(tables: dict[str, Any], others: dict[str, Any]) -> None:
    for key, value in others.items():
        if isinstance(value, dict) and isinstance(tables.get(key), dict):
            _merge(tables[key], cast("dict[str, Any]", value))
        else:
            tables[key] = value


def _override(tables: dict[str, Any], word: str, known: set[str], name: str) -> None:
    path, equals, text = word.partition("=")
    keys = path.split(".")
    if not (equals and all(keys)):
        raise UsageError(f"{word!r} is no setting; write key=value")
    if keys[0] not in known:
        raise UsageError(_unknown(name, keys[0], known))
    for key in keys[:-1]:
        inner = tables.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"{name}: {key} holds no keys of its own, got {word!r}")
        tables = cast("dict[str, Any]", inner)
    try:
        tables[keys[-1]] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:  # words without quotation marks are how a shell gives text
        tables[keys[-1]] = text


def _unknown(name: str, key: str, known: set[str]) -> str:
    near = difflib.get_close_matches(key, known, n=2)
    hint = (
        f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(sorted(known))}"
    )
    return f"{name} has no setting {key!r}: {hint}"


def _check(value: Any, hint: Any, where: str) -> Any:
    """Return the value in the wanted type, or say what is wanted."""
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise UsageError(f"{where} must be a list, got {value!r}")
        inner = get_args(hint)[0]
        return tuple(_check(item, inner, where) for item in cast("list[Any]", value))
    if get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise UsageError(f"{where} must be a table, got {value!r}")
        inner = get_args(hint)[1]
        items = cast("dict[str, Any]", value).items()
        return {k: v if inner is Any else _check(v, inner, f"{where}.{k}") for k, v in items}
    if hint is float and type(value) is int:
        return float(value)
    if hint is int and type(value) is float and value.is_integer():  # 5e4 for 50000
        return int(value)
    if type(value) is not hint:
        raise UsageError(f"{where} must be of type {hint.__name__}, got {value!r}")
    return value


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {key: _without_none(item) for key, item in items if item is not None}
    return value


def _table(path: str, table: dict[str, Any]) -> str:
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    names = {
        key: key if re.fullmatch(r"[\w-]+", key, re.ASCII) else json.dumps(key) for key in table
    }
    lines = [f"\n[{path}]"] if path and (len(inner) < len(table) or not table) else []
    # Numbers, strings and lists are written alike in JSON and TOML.
    lines += [f"{names[k]} = {json.dumps(v)}" for k, v in table.items() if k not in inner]
    text = "\n".join(lines) + "\n" if lines else ""
    start = f"{path}." if path else ""
    return text + "".join(_table(start + names[key], value) for key, value in inner.items())

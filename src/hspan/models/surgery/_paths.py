"""Submodules by the names that ``named_modules`` gives them."""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from hspan.errors import UsageError


def match_modules(model: nn.Module, where: str | Sequence[str]) -> dict[str, nn.Module]:
    """The submodules that patterns name, in the network's order.

    Args:
        model: whose submodules.
        where: paths such as ``body.3.conv``, or patterns: ``*``, ``?`` and ``[...]`` stand for
            parts of one name between dots, ``**`` for any number of whole names.

    Raises:
        UsageError: a pattern fits no submodule; names the nearest ones.
    """
    patterns = [where] if isinstance(where, str) else list(where)
    modules = {name: module for name, module in model.named_modules() if name}
    chosen: set[str] = set()
    for pattern in patterns:
        found = [name for name in modules if _fits(name.split("."), pattern.split("."))]
        if not found:
            near = difflib.get_close_matches(pattern, modules, n=3, cutoff=0.5)
            top = [name for name, _ in model.named_children()]
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(top)}"
            raise UsageError(f"{type(model).__name__} has no module {pattern!r}: {hint}")
        chosen.update(found)
    return {name: module for name, module in modules.items() if name in chosen}


def _fits(names: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(_fits(names[i:], pattern[1:]) for i in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _fits(names[1:], pattern[1:])

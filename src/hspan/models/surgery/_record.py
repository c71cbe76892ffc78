"""Changes to a network as plain values, for the metadata of its weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from hspan.errors import UsageError
from hspan.models.surgery._insertion import InsertedHSPA, attach, inserted
from hspan.models.surgery._weighting import declaring, replace_at, replaced


def changes(model: nn.Module) -> dict[str, Any]:
    """What ``add_hspa`` and ``replace_softmax`` changed, as values that JSON can hold.

    Returns:
        Empty for a network as it was built; else ``hspa``, a list of paths and settings, and
        ``soft_threshold``, a list of paths.
    """
    blocks = [{"after": path, **block.settings()} for path, block in inserted(model).items()]
    weighted = list(replaced(model))
    found = {"hspa": blocks, "soft_threshold": weighted}
    return {key: value for key, value in found.items() if value}


def repeat_changes(model: nn.Module, found: dict[str, Any]) -> None:
    """Change a network, as it was built, in the same way.

    Args:
        model: of the class and configuration that ``changes`` saw.
        found: its result.

    Raises:
        UsageError: the network has no such submodules, or the record isn't one.
    """
    modules = dict(model.named_modules())
    try:
        for entry in found.get("hspa", []):
            settings = dict(entry)
            target = modules[settings.pop("after")]
            attach(target, InsertedHSPA(**settings))
        attention = declaring(model)
        replace_at(model, {path: attention[path] for path in found.get("soft_threshold", [])})
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{type(model).__name__} can't be changed as recorded: {error}") from error

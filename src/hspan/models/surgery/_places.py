"""Where HSPA usually goes in networks of the registry."""

from collections.abc import Callable
from typing import Any

from torch import nn

from hspan.errors import UsageError

# By class: from the network's configuration to paths of submodules.
PLACES: dict[type[nn.Module], Callable[[Any], tuple[str, ...]]] = {}


def usual_places(model: nn.Module) -> tuple[str, ...]:
    """Paths of the submodules that HSPA is inserted after unless told otherwise.

    Raises:
        UsageError: none are known for this network.
    """
    places = PLACES.get(type(model))
    if places is None:
        known = ", ".join(sorted(kind.__name__ for kind in PLACES))
        raise UsageError(
            f"where should HSPA go in {type(model).__name__}? Name submodules as where=...; "
            f"only these have a usual place: {known}"
        )
    return places(model.config)

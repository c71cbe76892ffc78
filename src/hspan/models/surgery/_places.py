"""Where HSPA usually goes in networks of the registry.

FSRCNN gets a block before its mapping and one behind it: with 12 channels, 630 parameters, as
published (Fig. 7). The paper doesn't say where it put blocks in EDSR and RCAN; here they and their
kin get one in the middle of the body, as HSPAN-S has it (Section IV-D).
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from hspan.errors import UsageError
from hspan.models.drln import DRLN
from hspan.models.fsrcnn import FSRCNN
from hspan.models.rdn import RDN
from hspan.modules import ResidualBackbone


def _middle(path: str, blocks: Any) -> tuple[str, ...]:
    return (f"{path}.{(len(blocks) - 1) // 2}",)


# The first class that a network is of; paths of submodules.
PLACES: dict[type[nn.Module], Callable[[Any], tuple[str, ...]]] = {
    FSRCNN: lambda model: ("shrink", "mapping"),
    RDN: lambda model: _middle("blocks", model.blocks),
    DRLN: lambda model: _middle("cascades", model.cascades),
    ResidualBackbone: lambda model: _middle("body", model.body),
}


def usual_places(model: nn.Module) -> tuple[str, ...]:
    """Paths of the submodules that HSPA is inserted after unless told otherwise.

    Raises:
        UsageError: none are known for this network.
    """
    for kind, places in PLACES.items():
        if isinstance(model, kind):
            return places(model)
    raise UsageError(
        f"where should HSPA go in {type(model).__name__}? Name submodules as where=...; FSRCNN, "
        "EDSR, RCAN and networks with their frame have a usual place"
    )

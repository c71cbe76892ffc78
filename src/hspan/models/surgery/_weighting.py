"""Soft thresholding in place of softmax in existing attention (Section IV-C3, Fig. 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import nn

from hspan.errors import UsageError
from hspan.models.surgery._paths import match_modules
from hspan.modules.weighting import ReplaceableWeighting, Weighting, applications

# Set on modules whose softmax was replaced; those that were built without softmax are left alone.
_MARK = "softmax_replaced"


@dataclass(frozen=True)
class Replacement:
    """One module: its path, its class, and how often a forward pass applies it."""

    path: str
    kind: str
    applications: int


@dataclass(frozen=True)
class WeightingReport:
    """What ``replace_softmax`` or ``restore_softmax`` changed; ``print`` shows it as text.

    Attributes:
        network: the network's class.
        weighting: what the modules compute now, "soft-threshold" or "softmax".
        modules: one per module, in the network's order.
        parameters: trainable parameters of the network, before and after.
    """

    network: str
    weighting: Weighting
    modules: tuple[Replacement, ...]
    parameters: int

    @property
    def applications(self) -> int:
        """Attention modules that a forward pass goes through, shared ones counted every time."""
        return sum(module.applications for module in self.modules)

    def __str__(self) -> str:
        """A line for the network and one for every module."""
        words = {"soft-threshold": "soft thresholding", "softmax": "softmax"}
        now, before = words[self.weighting], words[_other(self.weighting)]
        count, passes = len(self.modules), self.applications
        often = f" ({passes} applications)" if passes > count else ""
        lines = [
            f"{self.network}: {now} in place of {before} in {count} attention "
            f"{'module' if count == 1 else 'modules'}{often}, "
            f"{self.parameters:,} trainable parameters as before"
        ]
        width = max((len(module.path) for module in self.modules), default=0)
        for module in self.modules:
            times = f", {module.applications} times" if module.applications > 1 else ""
            lines.append(f"  {module.path:<{width}}  {module.kind}{times}")
        return "\n".join(lines)


def replace_softmax(model: nn.Module, where: str | Sequence[str] | None = None) -> WeightingReport:
    """Let attention modules weigh by soft thresholding instead of softmax, in place.

    That goes for every module that declares its weighting (``hspan.modules.ReplaceableWeighting``):
    a user's own module does so with an attribute ``weighting`` that it passes to
    ``hspan.modules.weigh`` or ``attend``. Nothing has parameters, so keys and checkpoints stay what
    they are. ``restore_softmax`` takes it back; ``save_model`` and ``load_model`` keep it.

    Args:
        model: CSNLN, NLSN, SAN, an HSPAN with NLA, or any network with such modules.
        where: paths of submodules or patterns, as in ``add_hspa``; None is all of them.

    Returns:
        Which modules were changed; those that used no softmax aren't among them.

    Raises:
        UsageError: no module declares a weighting, no submodule has such a path, or one that was
            named declares none. Nothing is changed then.
    """
    modules = _named(model, where)
    chosen = {path: m for path, m in modules.items() if m.weighting == "softmax"}
    return replace_at(model, chosen)


def restore_softmax(model: nn.Module) -> WeightingReport:
    """Take back, in place, what ``replace_softmax`` changed.

    Returns:
        Which modules compute softmax again; none where nothing had been replaced.
    """
    restored: dict[str, ReplaceableWeighting] = {}
    for path, module in replaced(model).items():
        module.weighting = "softmax"
        delattr(module, _MARK)
        restored[path] = module
    return _report(model, "softmax", restored)


def replaced(model: nn.Module) -> dict[str, ReplaceableWeighting]:
    """Modules whose softmax ``replace_softmax`` replaced, by path."""
    return {path: m for path, m in declaring(model).items() if hasattr(m, _MARK)}


def replace_at(model: nn.Module, modules: dict[str, ReplaceableWeighting]) -> WeightingReport:
    """Replace softmax in these modules of a network."""
    for module in modules.values():
        module.weighting = "soft-threshold"
        setattr(module, _MARK, True)
    return _report(model, "soft-threshold", modules)


def _named(model: nn.Module, where: str | Sequence[str] | None) -> dict[str, ReplaceableWeighting]:
    found = declaring(model)
    if where is None:
        if not found:
            raise UsageError(
                f"no module of {type(model).__name__} declares its attention weighting "
                "(an attribute `weighting` that is softmax or soft-threshold)"
            )
        return found
    named = match_modules(model, where)
    chosen = {path: found[path] for path in named if path in found}
    if not chosen:
        known = ", ".join(list(found)[:4]) or "none does"
        raise UsageError(
            f"{', '.join(named)} declares no attention weighting; declared by: {known}"
        )
    return chosen


def declaring(model: nn.Module) -> dict[str, ReplaceableWeighting]:
    """Modules that declare their attention weighting, by path."""
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, ReplaceableWeighting)
    }


def _other(weighting: Weighting) -> Weighting:
    return "softmax" if weighting == "soft-threshold" else "soft-threshold"


def _report(
    model: nn.Module, weighting: Weighting, modules: dict[str, ReplaceableWeighting]
) -> WeightingReport:
    return WeightingReport(
        network=type(model).__name__,
        weighting=weighting,
        modules=tuple(
            Replacement(path, type(m).__name__, applications(cast("nn.Module", m)))
            for path, m in modules.items()
        ),
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
    )

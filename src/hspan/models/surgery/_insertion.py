"""HSPA after any module of any network (Section IV-C3).

The block becomes a child of the module that it follows, under the name ``inserted_hspa``, and a
forward hook applies it to the module's output; an ``nn.Sequential`` runs its children itself. No
module is replaced or renamed: keys, classes and attributes stay what they were. The hook is a
function that looks its block up, so that copies of the network use their own blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from hspan.errors import UsageError
from hspan.models.surgery._paths import match_modules
from hspan.models.surgery._places import usual_places
from hspan.modules import HSPA

CHILD = "inserted_hspa"
_SIDE = 16  # pixels per side of the image on which channels are found out


@dataclass(frozen=True)
class Insertion:
    """One block: the path of the module that it follows, its channels, its parameters."""

    path: str
    channels: int
    parameters: int


@dataclass(frozen=True)
class HSPAReport:
    """What ``add_hspa`` or ``remove_hspa`` changed; ``print`` shows it as text.

    Attributes:
        network: the network's class.
        action: "inserted" or "removed".
        blocks: one per block, in the network's order.
        parameters_before: trainable parameters of the network before the change.
        parameters_after: and after it.
    """

    network: str
    action: str
    blocks: tuple[Insertion, ...]
    parameters_before: int
    parameters_after: int

    def __str__(self) -> str:
        """A line for the network and one for every block."""
        count = len(self.blocks)
        added = self.parameters_after - self.parameters_before
        sign = "−" if added < 0 else "+"
        lines = [
            f"{self.network}: {count} HSPA {'block' if count == 1 else 'blocks'} {self.action}, "
            f"{self.parameters_before:,} {sign} {abs(added):,} = {self.parameters_after:,} "
            "trainable parameters"
        ]
        width = max((len(block.path) for block in self.blocks), default=0)
        lines += [
            f"  after {block.path:<{width}}  {block.channels} channels, "
            f"{block.parameters:,} parameters"
            for block in self.blocks
        ]
        return "\n".join(lines)


class InsertedHSPA(HSPA):
    """HSPA inside a network that was built without it.

    A checkpoint that knows nothing of the block leaves it as it is, even with ``strict=True``; one
    that holds a part of it is incomplete. Arguments are those of ``HSPA``.
    """

    def __init__(
        self, channels: int, reduction: int, topk: int | None, residual_scale: float
    ) -> None:
        super().__init__(channels, reduction, topk, residual_scale)
        self.channels = channels
        self.reduction = reduction

    def start_as_identity(self) -> None:
        """Set values, and so what the attention adds, to zero."""
        embedding = cast("nn.Conv2d", self.value[0])
        nn.init.zeros_(embedding.weight)
        nn.init.zeros_(cast("Tensor", embedding.bias))

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: Any,
        unexpected_keys: Any,
        error_msgs: Any,
    ) -> None:
        if not any(key.startswith(prefix) for key in state_dict):
            # Children take theirs from the same dictionary, a part of the caller's.
            state_dict.update(self.state_dict(prefix=prefix, keep_vars=True))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def settings(self) -> dict[str, Any]:
        """Arguments that build a block like this one."""
        return {
            "channels": self.channels,
            "reduction": self.reduction,
            "topk": self.topk,
            "residual_scale": self.residual_scale,
        }


def add_hspa(
    model: nn.Module,
    where: str | Sequence[str] | None = None,
    *,
    reduction: int = 2,
    topk: int | None = 128,
    residual_scale: float = 0.1,
    identity: bool = False,
    example: Tensor | tuple[Any, ...] | None = None,
) -> HSPAReport:
    """Insert HSPA after submodules of a network, in place.

    Keys and outputs' shapes stay as they are, so the network's own checkpoints keep loading
    (``load_state_dict``, strict), before the insertion or after it. ``remove_hspa`` takes the
    blocks out again. ``save_model`` and ``load_model`` keep blocks in networks of the registry.

    Args:
        model: any network; it must run on ``example``.
        where: paths of submodules as ``named_modules`` gives them, or patterns: ``*`` stands for
            one name between dots, ``**`` for any number. None takes the usual place of a network of
            the registry (in FSRCNN around the mapping: 630 parameters, as published).
        reduction: C / reduction channels for query and key.
        topk: as in ``hspan.HSPA``.
        residual_scale: weight of the attention beside its input.
        identity: start as the identity: values begin at zero, so that a trained network computes
            what it did until the blocks are trained. Otherwise blocks start at random.
        example: what the network is called with to find out channels, a tensor or several
            arguments; None is an image [1, 3, 16, 16]. Its values don't matter.

    Returns:
        What was inserted where.

    Raises:
        UsageError: no such submodule, one has a block already or isn't called, its output isn't
            [B, C, H, W], or the network doesn't run on the example. Nothing is changed then.
    """
    targets = match_modules(model, usual_places(model) if where is None else where)
    for path, module in targets.items():
        if hasattr(module, CHILD) or any(part == CHILD for part in path.split(".")):
            raise UsageError(f"{path} has an HSPA already; remove_hspa takes it out")
    outputs = _outputs(model, targets, example)
    blocks = {
        path: InsertedHSPA(output.shape[1], reduction, topk, residual_scale)
        for path, output in outputs.items()
    }
    before = _count(model)
    for path, block in blocks.items():
        if identity:
            block.start_as_identity()
        attach(targets[path], block.to(outputs[path].device, outputs[path].dtype))
    return _report(model, "inserted", blocks, before)


def remove_hspa(model: nn.Module) -> HSPAReport:
    """Take out, in place, every block that ``add_hspa`` inserted; the network is what it was.

    Returns:
        What was removed; nothing where nothing had been inserted.
    """
    blocks = inserted(model)
    before = _count(model)
    for path in blocks:
        module = model.get_submodule(path)
        delattr(module, CHILD)
        for key, hook in list(module._forward_hooks.items()):
            if hook is _apply:
                del module._forward_hooks[key]
    return _report(model, "removed", blocks, before)


def inserted(model: nn.Module) -> dict[str, InsertedHSPA]:
    """Blocks that ``add_hspa`` inserted, by the path of the module that they follow."""
    return {
        path: getattr(module, CHILD)
        for path, module in model.named_modules()
        if isinstance(getattr(module, CHILD, None), InsertedHSPA)
    }


def attach(module: nn.Module, block: InsertedHSPA) -> None:
    """Let a block follow a module, in its mode of training or evaluation."""
    module.add_module(CHILD, block.train(module.training))
    if not _runs_children(module):
        module.register_forward_hook(_apply)


def _apply(module: nn.Module, arguments: object, output: Tensor) -> Tensor:
    return getattr(module, CHILD)(output)


def _runs_children(module: nn.Module) -> bool:
    return type(module).forward is nn.Sequential.forward


def _outputs(
    model: nn.Module, targets: Mapping[str, nn.Module], example: Tensor | tuple[Any, ...] | None
) -> dict[str, Tensor]:
    """What every target gives when the network runs on the example."""
    outputs: dict[str, object] = {}

    def record(path: str, module: nn.Module, arguments: object, output: object) -> None:
        outputs[path] = output

    modes = [(module, module.training) for module in model.modules()]
    hooks = [m.register_forward_hook(partial(record, path)) for path, m in targets.items()]
    arguments = _example(model) if example is None else example
    try:
        with torch.no_grad():  # and in evaluation mode: no running statistics may change
            model.eval()(*(arguments if isinstance(arguments, tuple) else (arguments,)))
    except Exception as error:
        raise UsageError(
            f"{type(model).__name__} doesn't run on "
            f"{f'an image [1, 3, {_SIDE}, {_SIDE}]' if example is None else 'the example'}; "
            f"add_hspa needs what it takes, as example=... ({error})"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    return {path: _features(path, outputs.get(path)) for path in targets}


def _features(path: str, output: object) -> Tensor:
    if output is None:
        raise UsageError(f"{path} isn't called when the network runs; name a module that is")
    if not isinstance(output, Tensor):
        raise UsageError(f"{path} gives a {type(output).__name__}, HSPA takes one tensor")
    if output.dim() != 4 or not output.is_floating_point():
        raise UsageError(
            f"{path} gives {list(output.shape)} ({output.dtype}), "
            "HSPA takes floating-point features [B, C, H, W]"
        )
    return output


def _example(model: nn.Module) -> Tensor:
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.zeros(1, 3, _SIDE, _SIDE, device=first.device, dtype=first.dtype)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _report(
    model: nn.Module, action: str, blocks: Mapping[str, InsertedHSPA], before: int
) -> HSPAReport:
    return HSPAReport(
        network=type(model).__name__,
        action=action,
        blocks=tuple(
            Insertion(path, block.channels, _count(block)) for path, block in blocks.items()
        ),
        parameters_before=before,
        parameters_after=_count(model),
    )

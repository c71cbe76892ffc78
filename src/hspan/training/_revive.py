"""Units of residual blocks that have stopped firing, brought back to life.

A ReLU whose input is negative everywhere passes no gradient: its unit never comes back by itself,
and the network is smaller than it looks. High learning rates kill units one by one: after long runs
a quarter of hspan-light's were dead.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hspan.modules import ResidualBlock


@torch.no_grad()
def revive_units(
    network: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    seed: int,
    gather: Callable[[Tensor], Tensor] = lambda t: t[None],
) -> int:
    """Draw units anew that don't fire anywhere in a batch; the network computes the same as before.

    A new unit sees its input around the input's mean, so that it fires about half of the time, and
    nothing listens to it at first: the weights by which it is read begin at zero and are the first
    to be trained. Only residual blocks of two convolutions with a ReLU in between have such units.

    Args:
        network: changed in place.
        average: of the network over time, changed likewise; None if there is none.
        optimizer: what it remembers of these weights is forgotten.
        x: [B, 3, H, W], a batch.
        seed: chooses the new weights.
        gather: [...] of this device to [devices, ...] of all, so that they decide alike.

    Returns:
        How many units were revived.
    """
    copies = network if average is None else average
    blocks = [
        (block, copy)
        for block, copy in zip(network.modules(), copies.modules(), strict=True)
        if isinstance(block, ResidualBlock) and type(block.activation) is nn.ReLU
    ]
    if not blocks:
        return 0
    means, peaks = _watch([block for block, _ in blocks], lambda: network.forward(x))
    generator = torch.Generator().manual_seed(seed)
    revived = 0
    for (block, copy), mean, peak in zip(blocks, means, peaks, strict=True):
        dead = gather(peak).amax(0) <= 0
        if not dead.any():
            continue
        revived += int(dead.sum())
        first = block.conv1.weight
        fresh = torch.randn(first.shape, generator=generator).to(first)
        lengths = first.flatten(1).norm(dim=1)
        alive = lengths[~dead] if not dead.all() else lengths.new_ones(1)
        fresh *= (alive.median() / fresh.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
        middle = -(fresh.sum((2, 3)) * gather(mean).mean(0).to(fresh)).sum(1)  # in full precision
        bias = block.conv1.bias
        assert bias is not None
        for module in (block, cast(ResidualBlock, copy)):  # the same one where there is no average
            assert module.conv1.bias is not None
            module.conv1.weight[dead] = fresh[dead]
            module.conv1.bias[dead] = middle[dead]
            module.conv2.weight[:, dead] = 0
        _forget(optimizer, first, 0, dead)
        _forget(optimizer, bias, 0, dead)
        _forget(optimizer, block.conv2.weight, 1, dead)
    return revived


def _watch(
    blocks: list[ResidualBlock], run: Callable[[], object]
) -> tuple[list[Tensor], list[Tensor]]:
    """Means [C] of what each block's first convolution sees, and maxima [C] of what its second."""
    means: list[Tensor] = []
    peaks: list[Tensor] = []
    handles: list[RemovableHandle] = []

    def see_mean(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        means.append(args[0].float().mean((0, 2, 3)))

    def see_peak(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        peaks.append(args[0].float().amax((0, 2, 3)))

    for block in blocks:
        handles.append(block.conv1.register_forward_pre_hook(see_mean))
        handles.append(block.conv2.register_forward_pre_hook(see_peak))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return means, peaks


def _forget(optimizer: torch.optim.Optimizer, parameter: Tensor, dim: int, units: Tensor) -> None:
    """Set what the optimizer keeps about some units of a parameter to zero."""
    for kept in optimizer.state.get(parameter, {}).values():
        if isinstance(kept, Tensor) and kept.dim() == parameter.dim():
            kept.transpose(0, dim)[units] = 0

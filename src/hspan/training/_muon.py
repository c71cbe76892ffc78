"""Muon: momentum made orthogonal, for the matrices of a network, and Adam for everything else.

A step of Adam on a convolution's weight, seen as a matrix [outputs, inputs * side * side], is
nearly of low rank: a few directions take it all. Muon (Jordan et al., 2024) replaces the matrix of
momentum by the nearest one with singular values of about 1, so that every direction moves alike.
The singular values are driven to 1 by a Newton-Schulz iteration, products of matrices only.

Departure: the original leaves out the embedding and the head of a language model; here the first
and the last weight, which touch the image, and vectors and scalars belong to Adam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

# Coefficients of an odd polynomial of degree 5 that is steep at 0 and stays within [0.7, 1.2]
# around 1: singular values need to be alike, not exactly 1 (Jordan et al., 2024).
_POLYNOMIAL = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_TINY = 1e-9  # a singular value grows by less than 500 in all iterations


def orthogonalised(matrices: Tensor) -> Tensor:
    """Bring all singular values near 1, between about 0.7 and 1.2, and keep the directions.

    Args:
        matrices: [K, R, S], any scale; a matrix of zeros stays one.

    Returns:
        [K, R, S], in the input's dtype.
    """
    a, b, c = _POLYNOMIAL
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices  # products are then of the shorter side
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    # The momentum of a weight that gets no gradient any more dies away. What no step would feel is
    # dropped: products of such numbers are denormal, and processors take 20 times as long for them.
    x = x.where(x.abs() > _TINY, 0)
    # Each iteration multiplies x by a polynomial of x x^T. Only that is followed, and its products
    # are of the shorter side squared, a quarter of the work; small directions are right to 1e-4.
    gram = x @ x.mT
    one = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    product = one
    for _ in range(_ITERATIONS):
        factor = a * one + b * gram + c * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for matrices, Adam for the other parameters, in one optimizer.

    Args:
        named_parameters: of the network, in its order.
        lr: learning rate of Adam.
        matrix_lr: learning rate of Muon: how far a step moves every direction of a matrix, which
            for a square one is the change of its singular values.
        momentum: of Muon.
        betas: of Adam.
        eps: of Adam.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        *,
        lr: float,
        matrix_lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        parameters = [p for _, p in named_parameters]
        inner = [p for p in parameters if p.ndim >= 2][1:-1]
        matrices = {id(p) for p in inner}
        others = [p for p in parameters if id(p) not in matrices]
        adam = {"params": others, "lr": lr, "betas": betas, "eps": eps}
        muon = {"params": inner, "lr": matrix_lr, "momentum": momentum}
        super().__init__([g for g in (adam, muon) if g["params"]], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] (overloaded there)
        """Update every parameter that has a gradient.

        Args:
            closure: computes the gradients anew and returns the loss, as torch's optimizers allow.

        Returns:
            What ``closure`` returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            changed = [p for p in cast("list[Tensor]", group["params"]) if p.grad is not None]
            if "momentum" in group:
                self._step_muon(changed, group["lr"], group["momentum"])
            else:
                self._step_adam(changed, group)
        return loss

    def _step_muon(self, parameters: list[Tensor], lr: float, momentum: float) -> None:
        updates: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for p in parameters:
            assert p.grad is not None
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            mean = cast(Tensor, state["momentum"]).lerp_(p.grad, 1 - momentum)
            update = p.grad.lerp(mean, momentum).flatten(1)  # Nesterov's look ahead
            updates.setdefault((update.shape[0], update.shape[1]), []).append((p, update))
        for (rows, columns), entries in updates.items():
            matrices = torch.stack([update for _, update in entries])
            with torch.autocast(matrices.device.type, enabled=False):
                steps = orthogonalised(matrices)
            # A tall matrix of singular values 1 has shorter rows than a wide one.
            length = lr * max(1.0, rows / columns) ** 0.5
            for (p, _), update in zip(entries, steps, strict=True):
                p.add_(update.reshape(p.shape), alpha=-length)

    def _step_adam(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        for p in parameters:
            assert p.grad is not None
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros(())
                state["mean"] = torch.zeros_like(p)
                state["square"] = torch.zeros_like(p)
            state["step"] += 1
            count = float(state["step"])
            mean = cast(Tensor, state["mean"]).lerp_(p.grad, 1 - beta1)
            square = cast(Tensor, state["square"]).lerp_(p.grad.square(), 1 - beta2)
            deviation = (square / (1 - beta2**count)).sqrt_().add_(group["eps"])
            p.addcdiv_(mean, deviation, value=-group["lr"] / (1 - beta1**count))

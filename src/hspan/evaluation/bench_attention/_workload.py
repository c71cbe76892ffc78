"""One method bound to its input, ready to be run again and again."""

import os
from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor

from hspan.evaluation.bench_attention._features import Features
from hspan.evaluation.bench_attention._methods import Direction, Method


class Workload:
    """One method on some or all queries of one input, ready to be run again and again.

    Args:
        method: what computes.
        features: input; leaves of the graph are copies of it.
        direction: "forward" without a graph, "forward+saved" keeping what a backward needs, or
            "forward+backward".
        rows: queries, spread evenly over all; None is all of them.
        tile: queries handed to the method at a time; None hands it all at once.
    """

    def __init__(
        self,
        method: Method,
        features: Features,
        direction: Direction,
        rows: int | None = None,
        tile: int | None = None,
    ) -> None:
        query, key, value = method.prepare(features.query, features.key, features.value)
        tokens = query.shape[1]
        self.rows = tokens if rows is None else min(rows, tokens)
        self.indices = torch.arange(self.rows) * tokens // self.rows
        if self.rows < tokens:
            query = query[:, self.indices]
        self._method, self._features, self._direction = method, features, direction
        differentiated = direction != "forward"
        self._queries = [
            part.detach().contiguous().requires_grad_(differentiated)
            for part in query.split(tile or tokens, dim=1)
        ]
        self._key = key.detach().requires_grad_(differentiated)
        self._value = value.detach().requires_grad_(differentiated)
        self._grad = value[:, self.indices]  # any gradient will do, so long as it isn't constant

    def run(self) -> list[Tensor]:
        """Compute once.

        Returns:
            The outputs, one per tile.
        """
        # The kernels ask for the instruction set at every call, so methods can take turns.
        with _instruction_set(self._method.instruction_set):
            if self._direction == "forward+backward":
                return self._with_backward()
            with torch.set_grad_enabled(self._direction == "forward+saved"):
                return [self._attend(query) for query in self._queries]

    def _with_backward(self) -> list[Tensor]:
        for leaf in (self._key, self._value, *self._queries):
            leaf.grad = None
        outputs: list[Tensor] = []
        start = 0
        for query in self._queries:
            output = self._attend(query)
            output.backward(self._grad[:, start : start + query.shape[1]])
            start += query.shape[1]
            outputs.append(output.detach())
        return outputs

    def _attend(self, query: Tensor) -> Tensor:
        return self._method.attend(query, self._key, self._value, self._features)


@contextmanager
def _instruction_set(name: str | None) -> Generator[None]:
    """Make the compiled kernels use one instruction set; None leaves the choice as it is."""
    before = os.environ.get("HSPAN_ISA")
    if name is not None:
        os.environ["HSPAN_ISA"] = name
    try:
        yield
    finally:
        if name is not None:
            os.environ.pop("HSPAN_ISA")
            if before is not None:
                os.environ["HSPAN_ISA"] = before

"""Multiply-adds of a network, counted on the operators that it really runs.

Counted are the products of convolutions, transposed convolutions, linear layers and matrix
products, and of attention N·M·(C + D) for N queries and M keys of C channels and values of D: what
the dense form of Eqs. (6) and (8) takes, whatever the weights are and however few of them are
computed. Not counted is what has no products over channels or positions: activations,
normalisation, softmax, sorting, resampling by indices, Fourier transforms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from hspan.errors import UsageError


@dataclass(frozen=True)
class MultiplyAdds:
    """Pairs of one multiplication and one addition.

    Attributes:
        convolutions: in convolutions and transposed convolutions.
        products: in linear layers and matrix products, those of dense attention among them.
        attention: in attention that never forms its matrix, counted as if it did.
    """

    convolutions: int
    products: int
    attention: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.convolutions + self.products + self.attention


def count_multiply_adds(model: nn.Module, height: int, width: int) -> MultiplyAdds:
    """Count one forward pass over one image, without computing it or needing its memory.

    Args:
        model: any network that takes [1, 3, height, width] and runs on torch's meta device.
        height: of the LR image.
        width: of the LR image.

    Raises:
        UsageError: the network doesn't run on such an image without values.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    shapes = {name: tensor.to("meta") for name, tensor in tensors.items()}
    image = torch.empty(1, 3, height, width, device="meta")
    modes = [(module, module.training) for module in model.modules()]
    counter = FlopCounterMode(display=False, custom_mapping=_formulas())
    try:
        with torch.no_grad(), counter:
            functional_call(model.eval(), shapes, (image,))
    except (RuntimeError, NotImplementedError) as error:
        raise UsageError(
            f"{type(model).__name__} can't be counted: it doesn't run without values ({error})"
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    return _sorted(counter.get_flop_counts().get("Global", {}))


def lr_size(scale: int, width: int = 1280, height: int = 720) -> tuple[int, int]:
    """Height and width of the smallest LR image whose SR image has at least this size."""
    return -(-height // scale), -(-width // scale)


def _formulas() -> dict[Any, Any]:
    """Operators of this package that torch's own table lacks: two operations per multiply-add."""
    return {torch.ops.hspan.attention: _attention_operations}


def _attention_operations(
    query: tuple[int, ...],
    key: tuple[int, ...],
    value: tuple[int, ...],
    *settings: object,
    out_shape: object = None,
    **named: object,
) -> int:
    batch, queries, channels = query
    return 2 * batch * queries * key[1] * (channels + value[2])


def _sorted(operations: Mapping[Any, int]) -> MultiplyAdds:
    convolutions = products = attention = 0
    for operator, count in operations.items():
        name = str(operator)
        if "convolution" in name:
            convolutions += count // 2
        elif "attention" in name:
            attention += count // 2
        else:
            products += count // 2
    return MultiplyAdds(convolutions, products, attention)

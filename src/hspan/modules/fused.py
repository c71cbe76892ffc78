"""Convolutions and what follows them, in fewer passes over memory.

Memory is what a small network waits for on processors: a ReLU or a sum by itself reads and writes
all features once more. oneDNN adds to a convolution's sums before they leave the registers. Its
operator is called where torch has it and nobody can tell the difference: outside training, on the
processor. It has a ReLU as well, which turns NaN into zero and would hide what is broken.

In bf16, whole residual blocks go to a kernel of our own where the processor has AMX, or AVX-512
with bf16, in training as well (``hspan.ops.residual``).
"""

from functools import cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from hspan.modules.padding import being_traced
from hspan.ops import residual


def conv_relu(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """ReLU of a convolution of x [B, C, H, W]."""
    out = conv(x)
    if torch.is_grad_enabled() or out.device.type != "cpu" or being_traced():
        return F.relu(out, inplace=True)
    return torch.clamp_min(out, 0)  # the same in half the time


def conv_add(conv: nn.Conv2d, x: Tensor, other: Tensor, scale: float = 1.0) -> Tensor:
    """``other + scale · conv(x)`` of x [B, C, H, W], both of one shape."""
    if scale != 1:
        return other + scale * conv(x)
    if not _can_fuse(conv, x):
        return other + conv(x)
    x, weight, bias = _autocast(conv, x)
    if other.dtype != x.dtype or other.device != x.device:  # the sum has the wider type
        return other + conv(x)
    return torch.ops.mkldnn._convolution_pointwise.binary(
        x, other, weight, bias, *_geometry(conv), "add", 1.0, None, [], None
    )


def conv_relu_conv_add(
    first: nn.Conv2d, second: nn.Conv2d, x: Tensor, scale: float = 1.0
) -> Tensor:
    """``x + scale · second(relu(first(x)))`` of x [B, C, H, W]."""
    if _is_block(first, second, x):
        weights = cast(tuple[Tensor, ...], (first.weight, first.bias, second.weight, second.bias))
        if scale != 1:  # which needn't pass over the image
            weights = (*weights[:2], *(scale * t for t in weights[2:]))
        return residual.residual_block(x.to(torch.bfloat16), *weights)
    return conv_add(second, conv_relu(first, x), x, scale)


def _geometry(conv: nn.Conv2d) -> tuple[object, ...]:
    return conv.padding, conv.stride, conv.dilation, conv.groups


def _autocast(conv: nn.Conv2d, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Input, weight and bias as autocast would give them to the convolution."""
    dtype = _dtype(x)
    bias = None if conv.bias is None else conv.bias.to(dtype)
    return x.to(dtype), conv.weight.to(dtype), bias


def _dtype(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _can_fuse(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether nobody looks at what lies between the two operations."""
    return (
        not torch.is_grad_enabled()
        and _is_plain(conv)
        and not being_traced()
        and not torch.compiler.is_compiling()
        and _is_unobserved(x)
        and x.device.type == conv.weight.device.type == "cpu"
        and x.dim() == 4
        and x.numel() > 0
        and not isinstance(conv.padding, str)
        and torch.backends.mkldnn.enabled
        and _has_operator(_dtype(x))
    )


def _is_block(first: nn.Conv2d, second: nn.Conv2d, x: Tensor) -> bool:
    """Whether our kernel takes both convolutions, and nobody looks at what lies between them."""
    return (
        residual.HAS_KERNEL
        and not being_traced()
        and (torch.compiler.is_compiling() or _is_unobserved(x))
        and x.device.type == first.weight.device.type == "cpu"
        and _dtype(x) == torch.bfloat16
        and x.dim() == 4
        and residual.FEWEST_CHANNELS <= x.shape[1] <= residual.MOST_CHANNELS
        and all(_is_plain_square(conv, x.shape[1]) for conv in (first, second))
    )


def _is_plain(conv: nn.Conv2d) -> bool:
    """Whether it is torch's own, with zeros around the image, and nobody watches it."""
    return (
        type(conv) is nn.Conv2d
        and conv.padding_mode == "zeros"
        and not conv._forward_hooks
        and not conv._forward_pre_hooks
    )


def _is_plain_square(conv: nn.Conv2d, channels: int) -> bool:
    return (
        _is_plain(conv)
        and conv.weight.shape == (channels, channels, 3, 3)
        and conv.bias is not None
        and conv.stride == conv.padding == conv.dilation == (1, 1)
        and not conv._backward_hooks
        and not conv._backward_pre_hooks
    )


def _is_unobserved(x: Tensor) -> bool:
    """Whether no tool of torch follows the single operations."""
    return (
        type(x) is Tensor
        and not torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        and torch._C._len_torch_dispatch_stack() == 0  # counters of operations and of memory
        and torch._C._functorch.maybe_current_level() is None  # pyright: ignore[reportAttributeAccessIssue] (vmap and its like)
        and forward_ad.unpack_dual(x).tangent is None
    )


@cache
def _has_operator(dtype: torch.dtype) -> bool:
    """Whether this torch has the operator for such numbers: it is its own, not public."""
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    x, weight = torch.ones(1, 1, 1, 1, dtype=dtype), torch.full((1, 1, 1, 1), -1.0, dtype=dtype)
    geometry = ([0, 0], [1, 1], [1, 1], 1)
    try:
        operator = torch.ops.mkldnn._convolution_pointwise
        total = operator.binary(x, x, weight, None, *geometry, "add", 1.0, None, [], None)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return bool(total == 0)

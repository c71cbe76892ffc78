"""Residual blocks of two 3×3 convolutions in bf16, as one operator.

Networks of 3×3 convolutions wait for memory: between two of them, features leave the processor's
caches. The compiled kernel (native/residual.h) takes a part of the image through both convolutions,
the ReLU and the sum before it turns to the next part. On processors with AMX, a convolution is nine
products of matrices (native/convolve.h). Those that have AVX-512 with bf16 alone wait for
arithmetic instead: there, Winograd's transformation makes 16 products do the work of 36
(native/winograd.h).
"""

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hspan.errors import HspanError, UsageError
from hspan.ops import _library
from hspan.ops._forward_mode import refuse_forward_mode

# Widths for which the kernel is faster than two convolutions of oneDNN: on an Intel Xeon with AMX
# 1.2 to 2.5 times forward and 2 to 4 times backward, on an AMD EPYC without it 1.3 to 1.7 and 1.6
# to 3 times. On AMX, weights of wider ones leave its cache.
FEWEST_CHANNELS = 17
_MOST_CHANNELS = {"amx": 128, "avx512_bf16": 256}

_SMALL = 2**24  # products below which starting a second thread costs more than it saves


class _Call(ctypes.Structure):
    """hspan_residual in native/hspan.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "height", "width", "channels")),
        *((name, ctypes.c_int32) for name in ("threads", "level")),
        *((name, ctypes.c_void_p) for name in ("x", "first", "second")),
        *((name, ctypes.c_void_p) for name in ("first_bias", "second_bias")),
    ]


class _Weights(NamedTuple):
    """In the form that the kernel reads."""

    first: Tensor
    second: Tensor
    first_bias: Tensor | None = None
    second_bias: Tensor | None = None


def residual_block(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> Tensor:
    """X + conv2(relu(conv1(x))), with zeros around the image and sums in float32.

    The activations between the convolutions and the result are rounded to bf16, and so are the
    weights, or what Winograd makes of weights and activations; a network under autocast, computed
    convolution by convolution, rounds once more. Differentiable once.

    Args:
        x: [B, C, H, W], bf16, on a processor; anything but channels last is copied.
        weight1: [C, C, 3, 3], floating.
        bias1: [C].
        weight2: [C, C, 3, 3].
        bias2: [C].

    Returns:
        [B, C, H, W], bf16, channels last.

    Raises:
        UsageError: shapes or dtypes are others, or a forward-mode derivative is asked for, which
            there isn't.
    """
    _validate(x, weight1, bias1, weight2, bias2)
    refuse_forward_mode("residual_block", x, weight1, bias1, weight2, bias2)
    keep = torch.is_grad_enabled() and any(
        t.requires_grad for t in (x, weight1, bias1, weight2, bias2)
    )
    out, _ = torch.ops.hspan.residual_block.default(x, weight1, bias1, weight2, bias2, keep)
    return out


def _validate(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> None:
    if x.dim() != 4 or x.dtype != torch.bfloat16 or x.device.type != "cpu":
        raise UsageError(
            f"x must be [B, C, H, W] in bfloat16 on a processor, got {x.dtype} "
            f"{tuple(x.shape)} on {x.device}"
        )
    channels = x.shape[1]
    for weight, bias in ((weight1, bias1), (weight2, bias2)):
        if weight.shape != (channels, channels, 3, 3) or bias.shape != (channels,):
            raise UsageError(
                f"weights must be [{channels}, {channels}, 3, 3] and biases [{channels}], "
                f"got {tuple(weight.shape)} and {tuple(bias.shape)}"
            )


def _level() -> int | None:
    """The level to compute with; None if it has no such kernel."""
    compiled = _library.library()
    if compiled is None:
        return None
    level = _library.chosen_level()
    return level if compiled.hspan_residual_usable(level) else None


def _most_channels() -> int:
    """0 if there is no kernel."""
    try:
        level = _level()
    except HspanError:  # HSPAN_ISA is wrong: whoever asks for attention will be told
        return 0
    return 0 if level is None else _MOST_CHANNELS[_library.name_of(level)]


# Asked once, since compilers of networks can't follow the question.
MOST_CHANNELS = _most_channels()
HAS_KERNEL = MOST_CHANNELS > 0


def _call(x: Tensor, weights: _Weights, level: int) -> _Call:
    batch, channels, height, width = x.shape
    small = batch * height * width * channels * channels < _SMALL
    threads = 1 if small else torch.get_num_threads()
    pointers = (None if t is None else t.data_ptr() for t in weights)
    return _Call(batch, height, width, channels, threads, level, x.data_ptr(), *pointers)


def _run(name: str, call: _Call, *tensors: Tensor | None) -> None:
    pointers = (ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors)
    if getattr(_library.library(), name)(ctypes.byref(call), *pointers):
        raise MemoryError("not enough memory for the convolutions: use a smaller image or tiles")


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _plain(t: Tensor) -> Tensor:
    return t.detach().float().contiguous()


# Defined by hand as in ``soft_threshold``, so that nothing imports torch's compiler.
torch.library.define(
    "hspan::residual_block",
    "(Tensor x, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2, bool keep)"
    " -> (Tensor, Tensor)",
)
torch.library.define(
    "hspan::residual_block_backward",
    "(Tensor grad, Tensor x, Tensor inner, Tensor weight1, Tensor weight2)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


@torch.library.impl("hspan::residual_block", "default")
def _forward(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, keep: bool
) -> tuple[Tensor, Tensor]:
    x = _channels_last(x)
    level = _level()
    if level is None:  # HSPAN_ISA has been set since
        return _forward_in_steps(x, weight1, bias1, weight2, bias2)
    out, inner = _forward_shapes(x, weight1, bias1, weight2, bias2, keep)
    if x.numel():
        weights = _Weights(*(_plain(t) for t in (weight1, weight2, bias1, bias2)))
        _run("hspan_residual_forward", _call(x, weights, level), inner if keep else None, out)
    return out, inner


def _forward_shapes(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, keep: bool
) -> tuple[Tensor, Tensor]:
    out = torch.empty_like(x, memory_format=torch.channels_last)
    inner = torch.empty_like(x, memory_format=torch.channels_last) if keep else x.new_empty(0)
    return out, inner


@torch.library.impl("hspan::residual_block_backward", "default")
def _backward(
    grad: Tensor, x: Tensor, inner: Tensor, weight1: Tensor, weight2: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    grad, x = _channels_last(grad), _channels_last(x)
    level = _level()
    if level is None:
        return _backward_in_steps(grad, x, inner, weight1, weight2)
    d_x = torch.empty_like(x)
    sums = [torch.zeros(shape) for shape in (weight1.shape, x.shape[1], weight2.shape, x.shape[1])]
    if x.numel():
        weights = _Weights(_plain(weight1), _plain(weight2))
        _run("hspan_residual_backward", _call(x, weights, level), inner, grad, d_x, *sums)
    d_weight1, d_bias1, d_weight2, d_bias2 = (t.to(weight1.dtype) for t in sums)
    return d_x, d_weight1, d_bias1, d_weight2, d_bias2


def _backward_shapes(
    grad: Tensor, x: Tensor, inner: Tensor, weight1: Tensor, weight2: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    bias = weight1.new_empty(x.shape[1])
    return (
        torch.empty_like(x, memory_format=torch.channels_last),
        weight1.new_empty(weight1.shape),
        bias,
        weight2.new_empty(weight2.shape),
        torch.empty_like(bias),
    )


def _forward_in_steps(
    x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> tuple[Tensor, Tensor]:
    w1, b1, w2, b2 = (t.to(x.dtype) for t in (weight1, bias1, weight2, bias2))
    inner = _channels_last(F.relu(F.conv2d(x, w1, b1, padding=1)))
    return _channels_last(x + F.conv2d(inner, w2, b2, padding=1)), inner


def _backward_in_steps(
    grad: Tensor, x: Tensor, inner: Tensor, weight1: Tensor, weight2: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    def through(grad: Tensor, of: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sides = [1, 1]
        d_of, d_weight, d_bias = torch.ops.aten.convolution_backward(
            grad,
            of,
            weight.to(of.dtype),
            [of.shape[1]],
            sides,
            sides,
            sides,
            False,
            [0, 0],
            1,
            [True, True, True],
        )
        return d_of, d_weight.to(weight.dtype), d_bias.to(weight.dtype)

    d_inner, d_weight2, d_bias2 = through(grad, inner, weight2)
    d_x, d_weight1, d_bias1 = through(d_inner.masked_fill(inner == 0, 0), x, weight1)
    return _channels_last(grad + d_x), d_weight1, d_bias1, d_weight2, d_bias2


def _save(ctx, inputs, output) -> None:  # pyright: ignore
    x, weight1, _, weight2, _, _ = inputs
    ctx.save_for_backward(x, output[1], weight1, weight2)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad, _):  # pyright: ignore
    if grad is None:
        return (None,) * 6
    return *torch.ops.hspan.residual_block_backward.default(grad, *ctx.saved_tensors), None


def _only_once(_ctx, *_grads):  # pyright: ignore
    raise UsageError(
        "a residual block in bf16 is differentiable once: "
        "for gradients of gradients set HSPAN_ISA=avx2 before hspan is imported"
    )


torch.library.register_fake("hspan::residual_block", _forward_shapes)
torch.library.register_fake("hspan::residual_block_backward", _backward_shapes)
torch.library.register_autograd("hspan::residual_block", _differentiate, setup_context=_save)
torch.library.register_autograd("hspan::residual_block_backward", _only_once)

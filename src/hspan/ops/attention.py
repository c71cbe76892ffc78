"""Non-local attention over whole images, in memory linear in the number of pixels.

Eq. (6)   softmax_attention   the baseline, NLA
Eq. (7)   similarity          a plain dot product, no 1/√d
Eq. (8)   hspa_attention      the same with soft thresholding

Shapes: B batch, N = H * W queries, M keys, C and D channels.
The attention is one ``torch.library`` operator, so ``torch.compile`` and ``torch.export`` see one
node whatever the backend; ``hspan.ops.export_decompositions`` opens it for exporters.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.ops._backends import Call, check_name, pick, support_bytes
from hspan.ops._forward_mode import refuse_forward_mode
from hspan.ops.soft_threshold import compute_dtype


def hspa_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    topk: int | None = None,
    width: int | None = None,
    backend: str = "auto",
) -> Tensor:
    """Sparse attention, Eq. (8): soft thresholding of the similarities instead of softmax.

    Never holds the N×M matrix, except with ``backend="reference"``. Differentiable once; the
    gradient is Eq. (19) on the support.

    Args:
        query: [B, N, C], any floating dtype.
        key: [B, M, C], in the dtype of query.
        value: [B, M, D].
        topk: the number of largest scores of a query that take part; None is exact.
        width: of the image whose pixels the tokens are, row by row. Changes nothing but the speed
            (and which of equal scores count at the edge of ``topk``): neighbours look at the same
            keys, and the compiled kernel takes them together.
        backend: "auto"; "cpu" for the processor's kernel, compiled or else in pure torch; or one
            of "triton", "native" (compiled only), "screened", "tiles", "reference".

    Returns:
        [B, N, D], in the dtype of value. A query whose scores hold NaN or ``+inf``, or nothing
        but ``-inf``, yields NaN in its own row alone.

    Raises:
        UsageError: shapes, dtypes or devices don't fit together, ``topk`` or ``width`` < 1, or a
            forward-mode derivative is asked for, which there isn't.
        BackendUnavailable: the named backend can't take these tensors, with the reason.
    """
    _validate(query, key)
    _validate_value(key, value)
    topk = _effective(topk, key)
    check_name(backend)
    refuse_forward_mode("hspa_attention", query, key, value)
    if width is not None and width < 1:
        raise UsageError(f"width must be at least 1 or None, got {width}")
    keep = torch.is_grad_enabled() and (
        query.requires_grad or key.requires_grad or value.requires_grad
    )
    out, _, _ = torch.ops.hspan.attention.default(
        query, key, value, topk, width or 0, keep, backend
    )
    return out


def softmax_attention(
    query: Tensor, key: Tensor, value: Tensor, *, backend: str = "auto"
) -> Tensor:
    """Softmax attention, Eq. (6), the non-local baseline (NLA).

    Args:
        query: [B, N, C], any floating dtype.
        key: [B, M, C].
        value: [B, M, D].
        backend: "auto" (``scaled_dot_product_attention``, memory-linear) or "reference" (dense).

    Returns:
        [B, N, D], in the dtype of value.

    Raises:
        UsageError: shapes don't fit together, or the backend is neither of the two.
    """
    _validate(query, key)
    _validate_value(key, value)
    if backend == "reference":
        dtype = compute_dtype(query.dtype)
        weights = (query.to(dtype) @ key.to(dtype).transpose(1, 2)).softmax(dim=-1)
        return (weights @ value.to(dtype)).to(value.dtype)
    if backend != "auto":
        raise UsageError(f"softmax backend must be auto or reference, got {backend!r}")
    # One head: [B, 1, N, C]; fused kernels want the head and one dtype, and no scaling (Eq. 7).
    q, k, v = (t.to(value.dtype).unsqueeze(1) for t in (query, key, value))
    channels, depth = query.shape[2], value.shape[2]
    if value.device.type == "cpu":
        # The fused kernel for processors wants one width, and channels side by side in memory;
        # without it, all N×M weights would be held. Zeros change neither the scores nor the
        # channels that are returned.
        wide = max(channels, depth)
        q, k, v = (F.pad(t, (0, wide - t.shape[3])).contiguous() for t in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return out[..., :depth].squeeze(1)


def attention_support(
    query: Tensor, key: Tensor, *, topk: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The sparse weights of ``hspa_attention`` themselves, without an N×M matrix.

    Args:
        query: [B, N, C].
        key: [B, M, C].
        topk: as in ``hspa_attention``.

    Returns:
        ``(offsets, indices, weights)``: compressed sparse rows per query. ``offsets`` [B, N+1] are
        positions in the flat ``indices`` (keys, ascending in every row, int64) and ``weights``
        (at least float32, positive); query n of image b owns
        ``offsets[b, n]:offsets[b, n + 1]``. On the device of query; not differentiable.

    Raises:
        UsageError: as in ``hspa_attention``.
    """
    _validate(query, key)
    kernel = cast(Any, pick(Call("cpu", query.dtype), "cpu"))
    with torch.no_grad():
        parts = kernel.support(query.cpu(), key.cpu(), _effective(topk, key))
    return tuple(part.to(query.device) for part in parts)  # pyright: ignore[reportReturnType]


def _validate(query: Tensor, key: Tensor) -> None:
    if query.dim() != 3 or key.dim() != 3:
        raise UsageError(
            f"query and key must be [B, N, C] and [B, M, C], "
            f"got {tuple(query.shape)} and {tuple(key.shape)}"
        )
    if query.shape[0] != key.shape[0] or query.shape[2] != key.shape[2]:
        raise UsageError(
            f"query {tuple(query.shape)} and key {tuple(key.shape)} "
            "must have the same batch and channels"
        )
    if key.shape[1] == 0:
        raise UsageError("there are no keys, so no weights can sum to 1")
    if not query.is_floating_point() or query.dtype != key.dtype or query.device != key.device:
        raise UsageError(
            f"query and key must be of one floating dtype on one device, got {query.dtype} on "
            f"{query.device} and {key.dtype} on {key.device}"
        )


def _validate_value(key: Tensor, value: Tensor) -> None:
    if value.dim() != 3 or value.shape[:2] != key.shape[:2]:
        raise UsageError(
            f"value must be [B, M, D] with B, M = {tuple(key.shape[:2])} as in key, "
            f"got {tuple(value.shape)}"
        )
    if not value.is_floating_point() or value.device != key.device:
        raise UsageError("value must be floating and on the device of query and key")


def _effective(topk: int | None, key: Tensor) -> int | None:
    """Truncation to all keys or more is none: kernels needn't tell the two apart."""
    if topk is not None and topk < 1:
        raise UsageError(f"topk must be at least 1 or None, got {topk}")
    return None if topk is None or topk >= key.shape[1] else topk


# Defined by hand as in ``soft_threshold``, so that nothing imports torch's compiler.
torch.library.define(
    "hspan::attention",
    "(Tensor query, Tensor key, Tensor value, int? topk, SymInt width, bool keep, str backend)"
    " -> (Tensor, Tensor, Tensor)",
)
torch.library.define(
    "hspan::attention_backward",
    "(Tensor grad, Tensor query, Tensor key, Tensor value, Tensor limits, Tensor support,"
    " int? topk, SymInt width, str backend) -> (Tensor, Tensor, Tensor)",
)


@torch.library.impl("hspan::attention", "default")
def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    topk: int | None,
    width: int,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    kernel = pick(Call(query.device.type, query.dtype), backend)
    support = _support_memory(query, key, value, keep)
    with torch.autocast(query.device.type, enabled=False):  # kernels choose each product's dtype
        out, limits = kernel.forward(query, key, value, topk, width, support)
    return out, limits, support


def _support_memory(query: Tensor, key: Tensor, value: Tensor, keep: bool) -> Tensor:
    """Memory for the supports, of a size that depends on shapes alone, as compilers want it."""
    size = 0
    if keep and query.device.type == "cpu":
        dtype = torch.promote_types(compute_dtype(query.dtype), compute_dtype(value.dtype))
        size = support_bytes(query.shape[0], query.shape[1], key.shape[1], dtype)
    return query.new_empty(size, dtype=torch.uint8)


def _attention_shapes(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    topk: int | None,
    width: int,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, queries, _ = query.shape
    limits = query.new_empty(batch, queries, 2, dtype=compute_dtype(query.dtype))
    support = _support_memory(query, key, value, keep)
    return value.new_empty(batch, queries, value.shape[2]), limits, support


@torch.library.impl("hspan::attention_backward", "default")
def _attention_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    limits: Tensor,
    support: Tensor,
    topk: int | None,
    width: int,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    kernel = pick(Call(query.device.type, query.dtype), backend)
    with torch.autocast(query.device.type, enabled=False):
        return kernel.backward(grad, query, key, value, limits, support, topk, width)


def _attention_backward_shapes(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    limits: Tensor,
    support: Tensor,
    topk: int | None,
    width: int,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        query.new_empty(query.shape),
        key.new_empty(key.shape),
        value.new_empty(value.shape),
    )


def _save_inputs(ctx, inputs, output) -> None:  # pyright: ignore
    query, key, value, ctx.topk, ctx.width, _, ctx.backend = inputs
    _, limits, support = output
    ctx.save_for_backward(query, key, value, limits, support)
    ctx.mark_non_differentiable(limits, support)
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad, *_):  # pyright: ignore
    if grad is None:
        return (None,) * 7
    grads = torch.ops.hspan.attention_backward.default(
        grad, *ctx.saved_tensors, ctx.topk, ctx.width, ctx.backend
    )
    return *grads, None, None, None, None


torch.library.register_fake("hspan::attention", _attention_shapes)
torch.library.register_fake("hspan::attention_backward", _attention_backward_shapes)
torch.library.register_autograd("hspan::attention", _differentiate, setup_context=_save_inputs)


def _only_once(_ctx, *_grads):  # pyright: ignore
    raise UsageError(
        "hspa_attention is differentiable once: its gradient has no gradient "
        "(compose hspan.soft_threshold with matrix products to have one)"
    )


torch.library.register_autograd("hspan::attention_backward", _only_once)

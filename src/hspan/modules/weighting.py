"""How an attention module turns similarities into weights: softmax, or soft thresholding instead.

Section IV-C3, Fig. 8: soft thresholding takes the place of softmax in CSNLN, NLSN and SAN. Both
map a row of scores to the simplex and have no parameters, so a module needs nothing but a name to
change from one to the other, and changes back to the very same results.

Shapes: B batch, N queries, M keys, C and D channels.
"""

from typing import Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from hspan.errors import UsageError
from hspan.modules.recompute import recomputed
from hspan.ops import hspa_attention, soft_threshold, softmax_attention

Weighting = Literal["softmax", "soft-threshold"]

WEIGHTINGS: tuple[Weighting, ...] = ("softmax", "soft-threshold")

_SCORES = 2**23  # at hand at once where whole rows or columns are needed: 32 MiB of float32


@runtime_checkable
class ReplaceableWeighting(Protocol):
    """An attention module whose weighting can be replaced at any time.

    A module declares it by having the attribute and computing its weights with ``weigh`` or
    ``attend``. One that its network applies more than once in a forward pass, with the same
    weights, also has an attribute ``applications``.

    Attributes:
        weighting: "softmax" or "soft-threshold".
    """

    weighting: Weighting


def applications(module: nn.Module) -> int:
    """How often a forward pass of its network applies this module."""
    return int(getattr(module, "applications", 1))


def weigh(scores: Tensor, weighting: Weighting, dim: int = -1) -> Tensor:
    """Turn scores that are at hand, all of a row, into weights.

    Args:
        scores: any shape, any floating dtype.
        weighting: "softmax" or "soft-threshold" (Eqs. 9-12, exact).
        dim: the dimension that holds a row.

    Returns:
        Non-negative weights of the shape and dtype of ``scores``; each row sums to 1.

    Raises:
        UsageError: unknown weighting.
    """
    _check(weighting)
    return scores.softmax(dim) if weighting == "softmax" else soft_threshold(scores, dim)


def attend(
    query: Tensor, key: Tensor, value: Tensor, weighting: Weighting, *, width: int | None = None
) -> Tensor:
    """Weigh all values by similarity, in memory linear in N and in M.

    Args:
        query: [B, N, C].
        key: [B, M, C], in the dtype of query.
        value: [B, M, D].
        weighting: "softmax" or "soft-threshold" (Eqs. 9-12, exact) of the plain dot products.
        width: of the image whose pixels the queries are, where they are one: only a hint.

    Returns:
        [B, N, D], in the dtype of value.

    Raises:
        UsageError: unknown weighting, or shapes that don't fit together.
    """
    _check(weighting)
    if weighting == "softmax":
        return softmax_attention(query, key, value)
    return hspa_attention(query, key, value, width=width)


def spread(query: Tensor, key: Tensor, value: Tensor, weighting: Weighting) -> Tensor:
    """Let each key weigh the queries, where ``attend`` lets each query weigh the keys.

    A value goes to all queries, in shares that sum to 1 over the queries: softmax over the other
    dimension of the scores, as RNAN's program computes it. In memory linear in N and in M, in
    training too: scores are computed again for the gradient.

    Args:
        query: [B, N, C].
        key: [B, M, C].
        value: [B, M, D].
        weighting: "softmax" or "soft-threshold" over the queries.

    Returns:
        [B, N, D].

    Raises:
        UsageError: unknown weighting.
    """
    _check(weighting)
    step = max(1, _SCORES // (query.shape[0] * query.shape[1]))

    def part(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return weigh(query @ key.transpose(1, 2), weighting, dim=1) @ value

    if step >= key.shape[1]:
        return part(query, key, value)
    out = query.new_zeros(())
    for keys, values in zip(key.split(step, dim=1), value.split(step, dim=1), strict=True):
        out = out + recomputed(part, query, keys, values)
    return out


def _check(weighting: str) -> None:
    if weighting not in WEIGHTINGS:
        raise UsageError(f"weighting must be {' or '.join(WEIGHTINGS)}, got {weighting!r}")

"""Attention among features that a random hash puts together (NLSN: Mei, Fan, Zhou, CVPR 2021).

Hash     spherical locality-sensitive hashing: the nearest of ± random directions   _orders
Chunks   features sorted by hash and cut into chunks; each looks at itself and its
         two neighbours                                                             _attend
Rounds   of hashing, combined by how much similarity each one found                 forward

Shapes: B batch, R rounds, L = H·W, C/r embedding channels, S chunk size, K chunks.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.modules.weighting import Weighting, weigh
from hspan.ops.random import seeded_normal

_MAX_BUCKETS = 128
_NORM_FLOOR = 5e-5  # keys shorter than this aren't stretched to length 1 (code)


class BucketAttention(nn.Module):
    """Non-local sparse attention: ``x + residual_scale · attention(x)``.

    Args:
        channels: C of the features.
        reduction: C / reduction channels for what is compared.
        chunk: S, features in a chunk; also about how many share a bucket.
        rounds: R, hashes with new random directions.
        residual_scale: weight of the attention beside its input.
        seed: of the directions in eval mode, which are then the same at every call; training
            draws from torch's global generator.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        chunk: int = 144,
        rounds: int = 4,
        residual_scale: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 1 <= reduction <= channels:
            raise UsageError(f"reduction must lie in [1, {channels}], got {reduction}")
        if chunk < 1 or rounds < 1:
            raise UsageError(f"chunk and rounds must be at least 1, got {chunk} and {rounds}")
        self.match = nn.Conv2d(channels, channels // reduction, 3, padding=1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.chunk = chunk
        self.rounds = rounds
        self.residual_scale = residual_scale
        self.seed = seed
        self.weighting: Weighting = "softmax"

    def directions_shape(self, positions: int) -> tuple[int, int, int, int]:
        """Shape of the random directions for L positions: [1, C/r, R, buckets/2]."""
        chunks = positions // self.chunk
        buckets = min(chunks + chunks % 2, _MAX_BUCKETS)
        return 1, self.match.out_channels, self.rounds, buckets // 2

    def forward(self, x: Tensor, directions: Tensor | None = None) -> Tensor:
        """Map [B, C, H, W] to the same shape.

        Args:
            x: features with H·W ≥ chunk.
            directions: of ``directions_shape``; None draws them as the class says.

        Raises:
            UsageError: the features are fewer than a chunk.
        """
        positions = x.shape[-2] * x.shape[-1]
        if positions < self.chunk:
            raise UsageError(f"attention in chunks of {self.chunk} needs as many, got {positions}")
        if directions is None:
            shape = self.directions_shape(positions)
            if self.training:
                directions = torch.randn(shape, device=x.device)
            else:
                directions = seeded_normal(self.seed, 1, shape, x)[0]
        match = self.match(x).flatten(2).transpose(1, 2)  # [B, L, C/r]
        value = self.value(x).flatten(2).transpose(1, 2)  # [B, L, C]
        mixed: list[Tensor] = []
        found: list[Tensor] = []
        for order in self._orders(match.detach(), directions):
            out, similarity = self._attend(match, value, order)
            mixed.append(out)
            found.append(similarity)
        shares = torch.stack(found).softmax(dim=0)  # [R, B, L, 1]
        out = sum(share.to(out.dtype) * out for share, out in zip(shares, mixed, strict=True))
        return x + self.residual_scale * out.transpose(1, 2).view_as(x)  # pyright: ignore[reportAttributeAccessIssue] (at least one round)

    def _orders(self, match: Tensor, directions: Tensor) -> Tensor:
        """Positions sorted by hash, round by round: [R, B, L]. Equal hashes keep their order."""
        dtype = torch.promote_types(match.dtype, torch.float32)
        near = torch.einsum("blc,crd->rbld", match.to(dtype), directions[0].to(dtype))
        return torch.cat([near, -near], dim=-1).argmax(dim=-1).sort(dim=-1, stable=True).indices

    def _attend(self, match: Tensor, value: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """One round: what every position gets [B, L, C], and how similar it was [B, L, 1]."""
        positions = order.shape[1]
        missing = -positions % self.chunk
        # The last chunk is filled up with the last features once more.
        filled = torch.cat([order, order[:, positions - missing :]], dim=1).unsqueeze(-1)
        query = match.gather(1, filled.expand(-1, -1, match.shape[2]))
        query = query.unflatten(1, (-1, self.chunk))  # [B, K, S, C/r]
        key = _with_neighbours(F.normalize(query, dim=-1, eps=_NORM_FLOOR))
        value = value.gather(1, filled.expand(-1, -1, value.shape[2]))
        value = _with_neighbours(value.unflatten(1, (-1, self.chunk)))
        scores = query @ key.transpose(-1, -2)  # [B, K, S, 3S]
        out = (weigh(scores, self.weighting) @ value).flatten(1, 2)[:, :positions]
        similarity = scores.logsumexp(dim=-1).flatten(1)[:, :positions]
        place = order.argsort(dim=1).unsqueeze(-1)
        return (
            out.gather(1, place.expand(-1, -1, out.shape[2])),
            similarity.unsqueeze(-1).gather(1, place),
        )

    def extra_repr(self) -> str:
        """What the printed module shows."""
        return f"chunk={self.chunk}, rounds={self.rounds}, weighting={self.weighting!r}"


def _with_neighbours(chunks: Tensor) -> Tensor:
    """[B, K, S, C] to [B, K, 3S, C]: each chunk, the one before it and the one after it."""
    return torch.cat([chunks, chunks.roll(1, dims=1), chunks.roll(-1, dims=1)], dim=2)

"""Softmax attention through random features, linear in the number of pixels (ENLCN, AAAI 2022).

_features   exp(q·k) is the mean, over random directions w, of
            exp(w·q - |q|²/2) · exp(w·k - |k|²/2); a few directions estimate it
forward     sums over keys are taken once, before the queries are known
_SHARPNESS  query and key on a sphere of squared radius 6, so that similar pixels stand out

Departure: new directions are uniform; those that the authors' program draws favour one half-space
of each axis.

Shapes: B batch, L = H·W, F random directions, E = C/r embedding channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.modules.precision import without_autocast

_SHARPNESS = 6.0
_NORM_FLOOR = 5e-5  # embeddings shorter than this aren't stretched to the sphere (code)
_FEATURE_FLOOR = 1e-4  # added to every feature, so that no sum of them vanishes (code)


class KernelAttention(nn.Module):
    """Efficient non-local contrastive attention: ``x + residual_scale · attention(x)``.

    Args:
        channels: C of the features.
        reduction: C / reduction channels for query and key.
        projections: F, random directions.
        residual_scale: weight of the attention beside its input.
        generator: draws the directions, which are stored with the weights; None is torch's global
            generator.
    """

    projection_matrix: Tensor

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        projections: int = 128,
        residual_scale: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= reduction <= channels:
            raise UsageError(f"reduction must lie in [1, {channels}], got {reduction}")
        if projections < 1:
            raise UsageError(f"projections must be at least 1, got {projections}")
        self.query = nn.Conv2d(channels, channels // reduction, 1)
        self.key = nn.Conv2d(channels, channels // reduction, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.residual_scale = residual_scale
        drawn = _orthogonal_directions(projections, channels // reduction, generator)
        # On the device of the other weights, which may be none.
        self.register_buffer("projection_matrix", drawn.to(self.query.weight.device))

    def redraw(self, generator: torch.Generator | None = None) -> None:
        """Replace the directions, which stay as they are otherwise."""
        count, width = self.projection_matrix.shape
        drawn = _orthogonal_directions(count, width, generator)
        self.projection_matrix.copy_(drawn)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        query = self._features(self.query(x))  # [B, L, F]
        key = self._features(self.key(x))
        value = self.value(x).flatten(2).transpose(1, 2).to(query.dtype)  # [B, L, C]
        # Exponentials and their sums in float32, whatever the convolutions run in.
        with without_autocast(x):
            total = query @ key.sum(dim=1).unsqueeze(-1)  # [B, L, 1]
            mixed = query @ (key.transpose(1, 2) @ value) / total
        return x + self.residual_scale * mixed.transpose(1, 2).view_as(x).to(x.dtype)

    def _features(self, embedded: Tensor) -> Tensor:
        rows = embedded.flatten(2).transpose(1, 2)  # [B, L, E]
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        rows = F.normalize(rows, dim=-1, eps=_NORM_FLOOR) * _SHARPNESS**0.5
        with without_autocast(rows):
            exponent = rows @ self.projection_matrix.t().to(rows.dtype)
        exponent = exponent - rows.square().sum(dim=-1, keepdim=True) / 2
        return exponent.exp() + _FEATURE_FLOOR


def _orthogonal_directions(count: int, width: int, generator: torch.Generator | None) -> Tensor:
    """Directions [count, width], orthogonal in groups of ``width``, of the lengths of normal ones.

    Drawn on the processor: a seed gives the same on every device.
    """

    def normal(rows: int) -> Tensor:
        return torch.randn(rows, width, generator=generator, device="cpu")

    blocks: list[Tensor] = []
    for _ in range(-(-count // width)):
        q, r = torch.linalg.qr(normal(width))
        # Without its signs, the factorisation favours half of all directions.
        blocks.append((q * r.diagonal().sign()).t())
    return normal(count).norm(dim=1, keepdim=True) * torch.cat(blocks)[:count]

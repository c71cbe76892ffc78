"""Attention from pixels to patches of a smaller scale (CSNLN: Mei et al., CVPR 2020).

Patches of the features are looked up among patches of the same features made s times smaller; what
stands there at full size becomes the enlarged features.

The patches that are compared are of 3 × 3 positions, and those that are laid out of 3 × 3 blocks of
s × s. Every pair of patches is nine pairs of neighbours, so nothing is ever cut into patches: the
similarities of single positions are summed along diagonals (``_diagonal_sums``), and so are the
weights before they meet the blocks. This is a ninth of the products. Queries are taken strip by
strip, so that the scores of the whole image are never held.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.modules.attention import embedding
from hspan.modules.recompute import recomputed
from hspan.modules.weighting import Weighting, weigh

_SHARPNESS = 10.0  # multiplies similarities (code)
_NORM_FLOOR = 1e-4  # patches shorter than this aren't stretched to length 1 (code)
_OVERLAP = 6.0  # divides what overlapping patches sum to, at every scale (code)
_SCORES = 2**24  # in a strip: 64 MiB of float32


class CrossScaleAttention(nn.Module):
    """Cross-scale non-local attention: enlarge features with what looks alike in them.

    Args:
        channels: C of the features.
        factor: s, of enlargement.
        reduction: C / reduction channels for what is compared.
        applications: how often a forward pass of the network applies it.
    """

    def __init__(
        self, channels: int, factor: int, reduction: int = 2, applications: int = 1
    ) -> None:
        super().__init__()
        if not 1 <= reduction <= channels:
            raise UsageError(f"reduction must lie in [1, {channels}], got {reduction}")
        self.query = embedding(channels, channels // reduction)
        self.key = embedding(channels, channels // reduction)
        self.value = embedding(channels, channels)
        self.factor = factor
        self.applications = applications
        self.weighting: Weighting = "softmax"

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, s·H, s·W].

        Raises:
            UsageError: H or W isn't a multiple of s.
        """
        height, width = x.shape[-2:]
        s = self.factor
        if height % s or width % s:
            raise UsageError(f"height and width must be multiples of {s}, got {height}×{width}")
        size = height // s, width // s
        key = self.key(F.interpolate(x, size=size, mode="bilinear", align_corners=False))
        squares = F.avg_pool2d(key.square().sum(dim=1, keepdim=True), 3, 1, 1) * 9
        sharpness = _SHARPNESS / squares.clamp_min(_NORM_FLOOR**2).sqrt()  # [B, 1, H/s, W/s]
        blocks = F.pixel_unshuffle(self.value(x), s)  # [B, s²·C, H/s, W/s]
        query, key = F.pad(self.query(x), (1, 1, 1, 1)), F.pad(key, (1, 1, 1, 1))
        step = max(1, _SCORES // (query.shape[0] * query.shape[3] * key[0, 0].numel()) - 2)
        if step >= height:
            out = self._strip(query, key, sharpness, blocks)
        else:
            # Strips overlap by the patches' borders: a block above and a block below.
            out = blocks.new_zeros(*x.shape[:2], s * (height + 2), s * width)
            for top in range(0, height, step):
                rows = min(step, height - top) + 2
                strip = query[:, :, top : top + rows]
                part = recomputed(self._strip, strip, key, sharpness, blocks)
                out[:, :, s * top : s * (top + rows)] += part
        return out[:, :, s:-s] / _OVERLAP

    def _strip(self, query: Tensor, key: Tensor, sharpness: Tensor, blocks: Tensor) -> Tensor:
        """Enlarge some rows.

        Args:
            query: [B, C/r, R + 2, W + 2]: R rows and a border of one position.
            key: [B, C/r, h + 2, w + 2]: the smaller features and such a border.
            sharpness: [B, 1, h, w], what a key's similarities are multiplied by.
            blocks: [B, s²·C, h, w].

        Returns:
            [B, C, s·(R + 2), s·W]: the sum of the patches, and a block above and below.
        """
        single = query.flatten(2).transpose(1, 2) @ key.flatten(2)
        single = single.to(torch.promote_types(single.dtype, torch.float32))
        scores = _diagonal_sums(single.unflatten(2, key.shape[2:]).unflatten(1, query.shape[2:]))
        scores = scores * sharpness.unsqueeze(1)  # [B, R, W, h, w]
        weights = weigh(scores.flatten(3), self.weighting).view_as(scores)
        # A border of zeros all around, but of two rows where the output has one more itself.
        weights = _diagonal_sums(F.pad(weights, (1, 1, 1, 1, 1, 1, 2, 2)))
        mixed = blocks.flatten(2) @ weights.flatten(3).flatten(1, 2).transpose(1, 2).to(
            blocks.dtype
        )
        return F.pixel_shuffle(mixed.unflatten(2, weights.shape[1:3]), self.factor)

    def extra_repr(self) -> str:
        """What the printed module shows."""
        return f"factor={self.factor}, weighting={self.weighting!r}"


def _diagonal_sums(pairs: Tensor) -> Tensor:
    """Sum pairs of positions with the pairs of their neighbours on the same side.

    Args:
        pairs: [B, R + 2, W + 2, h + 2, w + 2].

    Returns:
        [B, R, W, h, w]: at (y, x, v, u), the sum over the nine (i, j) of
        ``pairs[y + i, x + j, v + i, u + j]``.
    """
    for first, second in ((2, 4), (1, 3)):
        size, other = pairs.shape[first] - 2, pairs.shape[second] - 2
        middle, *sides = (pairs.narrow(first, i, size).narrow(second, i, other) for i in (1, 0, 2))
        pairs = middle + sides[0]
        pairs += sides[1]
    return pairs

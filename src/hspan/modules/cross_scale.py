"""Attention from pixels to patches of a smaller scale (CSNLN: Mei et al., CVPR 2020).

Eqs. (3), (4)  CrossScaleAttention  patches of the features looked up among patches of the same
                                    features made s times smaller; what is found there at full size
                                    becomes the enlarged features

Each of the H·W queries takes shares of all (H/s)·(W/s) patches of 3s × 3s values, which overlap
when they are laid out at stride s. That is done strip by strip of queries, so that neither the
scores nor the overlapping patches of the whole image are ever held.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.modules.attention import embedding
from hspan.modules.weighting import Weighting, attend, recomputed, weigh

_SIDE = 3  # of the patches that are compared
_SHARPNESS = 10.0  # multiplies similarities (code)
_NORM_FLOOR = 1e-4  # patches shorter than this aren't stretched to length 1 (code)
_OVERLAP = 6.0  # divides what overlapping patches sum to, at every scale (code)
_ELEMENTS = 2**22  # of scores, and of patches, in a strip: 16 MiB of float32 each


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
        smaller = F.interpolate(
            x, size=(height // s, width // s), mode="bilinear", align_corners=False
        )
        key = F.unfold(self.key(smaller), _SIDE, padding=1)  # [B, 9·C/r, M]
        key = key * (_SHARPNESS / key.norm(dim=1, keepdim=True).clamp_min(_NORM_FLOOR))
        value = F.unfold(self.value(x), _SIDE * s, padding=s, stride=s)  # [B, 9s²·C, M]
        key, value = (t.transpose(1, 2).contiguous() for t in (key, value))
        query = F.pad(self.query(x), (1, 1, 1, 1))
        widest = max(key.shape[1], value.shape[2])
        step = max(1, _ELEMENTS // (x.shape[0] * width * widest))
        if step >= height:
            out = self._strip(query, key, value)
        else:
            # Strips overlap by the patches' borders: s rows above and s below.
            out = x.new_zeros(*x.shape[:2], s * (height + 2), s * width, dtype=value.dtype)
            for top in range(0, height, step):
                rows = min(step, height - top)
                strip = query[:, :, top : top + rows + 2]
                out[:, :, s * top : s * (top + rows + 2)] += recomputed(
                    self._strip, strip, key, value
                )
        return out[:, :, s:-s] / _OVERLAP

    def _strip(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Enlarge some rows.

        Args:
            query: [B, C/r, R + 2, W + 2], R rows and a border of one position.
            key: [B, M, 9·C/r].
            value: [B, M, 9s²·C].

        Returns:
            [B, C, s·(R + 2), s·W]: the sum of the patches, a border of s above and below.
        """
        s = self.factor
        rows, width = query.shape[2] - 2, query.shape[3] - 2
        tokens = F.unfold(query, _SIDE).transpose(1, 2)  # [B, R·W, 9·C/r]
        if self.weighting == "softmax":
            mixed = weigh(tokens @ key.transpose(1, 2), self.weighting) @ value
        else:
            mixed = attend(tokens, key, value, self.weighting, width=width)
        return F.fold(
            mixed.transpose(1, 2), (s * (rows + 2), s * width), _SIDE * s, padding=(0, s), stride=s
        )

    def extra_repr(self) -> str:
        """What the printed module shows."""
        return f"factor={self.factor}, weighting={self.weighting!r}"

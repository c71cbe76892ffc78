"""Non-local blocks: high-similarity-pass attention and its softmax baseline.

Eq. (6)  NLA   softmax over all positions, or over positions drawn at random (Fig. 2); soft
               thresholding instead on demand, as in any module that declares its weighting
Eq. (8)  HSPA  soft thresholding instead

Departure: ``patch`` > 1 compares patches of patch × patch positions instead of single positions
(similarity and value are those of all positions of the patch together), which shortens the
sequence by patch² and leaves the parameters as they are. The paper's blocks have patch = 1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.modules.padding import being_traced, crop_image
from hspan.modules.weighting import Weighting, attend
from hspan.ops import hspa_attention


class _NonLocal(nn.Module):
    """What HSPA and NLA share: embeddings φ_q, φ_k, φ_v, tokens, and the scaled residual."""

    def __init__(self, channels: int, reduction: int, residual_scale: float, patch: int) -> None:
        super().__init__()
        if reduction < 1 or channels < reduction:
            raise UsageError(f"reduction must lie in [1, {channels}], got {reduction}")
        if patch < 1:
            raise UsageError(f"patch must be at least 1, got {patch}")
        self.residual_scale = residual_scale
        self.patch = patch
        self.query = embedding(channels, channels // reduction)
        self.key = embedding(channels, channels // reduction)
        self.value = embedding(channels, channels)

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed features as sequences.

        Args:
            x: [B, C, H, W].

        Returns:
            Query and key [B, N, C·patch²/reduction] and value [B, N, C·patch²], with
            N = ⌈H/patch⌉·⌈W/patch⌉.
        """
        height, width = x.shape[-2:]
        rows, columns = self._grid(x)
        bottom, right = rows * self.patch - height, columns * self.patch - width
        if being_traced() or bottom or right:  # a program for any size has no "if"
            x = F.pad(x, (0, right, 0, bottom), mode="replicate")
        return (
            self._flatten(self.query(x), rows, columns),
            self._flatten(self.key(x), rows, columns),
            self._flatten(self.value(x), rows, columns),
        )

    def _grid(self, x: Tensor) -> tuple[int, int]:
        """How many patches stand in a column and in a row of x [B, C, H, W]."""
        height, width = x.shape[-2:]
        # Not -(-height // patch): the ONNX form of // rounds towards zero.
        return (height + self.patch - 1) // self.patch, (width + self.patch - 1) // self.patch

    def _flatten(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """Tokens [B, N, C·patch²] of x [B, C, H, W], a patch's positions one after the other.

        Channels vary fastest: images in channels-last memory are then copied in long pieces, or,
        with single positions, not at all.
        """
        x = x.permute(0, 2, 3, 1)  # [B, H, W, C]
        if self.patch > 1:
            grid = x.unflatten(2, (columns, self.patch)).unflatten(1, (rows, self.patch))
            x = grid.transpose(2, 3).flatten(3)  # [B, rows, columns, patch²·C]
        return x.flatten(1, 2)

    def _add(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Add tokens [B, N, C·patch²] to x [B, C, H, W], as an image again."""
        return x + self.residual_scale * self._image(x, mixed)

    def _image(self, x: Tensor, mixed: Tensor) -> Tensor:
        """Lay tokens [B, N, C·patch²] out as an image of the shape of x."""
        height, width = x.shape[-2:]
        rows, columns = self._grid(x)
        out = mixed.unflatten(1, (rows, columns))
        if self.patch > 1:
            grid = out.unflatten(3, (self.patch, self.patch, -1)).transpose(2, 3)
            out = grid.flatten(3, 4).flatten(1, 2)  # [B, rows·patch, columns·patch, C]
        out = out.permute(0, 3, 1, 2)
        if self.patch > 1:
            out = crop_image(out, height, width)
        return out


def embedding(channels: int, out_channels: int) -> nn.Sequential:
    """A 1×1 convolution and a PReLU of one slope."""
    return nn.Sequential(nn.Conv2d(channels, out_channels, 1), nn.PReLU())


class HSPA(_NonLocal):
    """High-similarity-pass attention, Eq. (8): ``residual_scale · HSPA(x) + x``.

    Args:
        channels: C of the features.
        reduction: C / reduction channels for query and key.
        topk: how many of the most similar positions take part (Section IV-C2); None is exact,
            0 switches the block off. May be changed at any time.
        residual_scale: weight of the attention beside its input.
        patch: positions per side of a token; 1 is the paper's.
        backend: of ``hspan.hspa_attention``.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 2,
        topk: int | None = 128,
        residual_scale: float = 0.1,
        patch: int = 1,
        backend: str = "auto",
    ) -> None:
        super().__init__(channels, reduction, residual_scale, patch)
        if topk is not None and topk < 0:
            raise UsageError(f"topk must be None or at least 0, got {topk}")
        self.topk = topk
        self.backend = backend

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        if self.topk == 0:
            return x
        query, key, value = self.tokens(x)
        width = self._grid(x)[1]
        mixed = hspa_attention(query, key, value, topk=self.topk, width=width, backend=self.backend)
        return self._add(x, mixed)

    def extra_repr(self) -> str:
        """What the printed module shows."""
        return f"topk={self.topk}, residual_scale={self.residual_scale}, patch={self.patch}"


class NLA(_NonLocal):
    """Non-local attention by softmax, Eq. (6), with HSPA's embeddings and residual.

    Args:
        channels: C of the features.
        reduction: C / reduction channels for query and key.
        samples: attend to this many positions drawn at random for each image (NLA_random, Fig. 2:
            512) instead of all; None attends to all.
        residual_scale: weight of the attention beside its input.
        patch: positions per side of a token; 1 is the paper's.
        seed: of the draw in eval mode, which is then the same at every call; training draws from
            torch's global generator.
        weighting: "softmax", or "soft-threshold" instead (``hspan.replace_softmax`` sets it). May
            be changed at any time.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 2,
        samples: int | None = None,
        residual_scale: float = 0.1,
        patch: int = 1,
        seed: int = 0,
        weighting: Weighting = "softmax",
    ) -> None:
        super().__init__(channels, reduction, residual_scale, patch)
        if samples is not None and samples < 1:
            raise UsageError(f"samples must be None or at least 1, got {samples}")
        self.samples = samples
        self.seed = seed
        self.weighting: Weighting = weighting

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        query, key, value = self.tokens(x)
        if self.samples is not None and self.samples < key.shape[1]:
            drawn = self._draw(key.shape[0], key.shape[1]).to(key.device).unsqueeze(-1)
            key = key.gather(1, drawn.expand(-1, -1, key.shape[2]))
            value = value.gather(1, drawn.expand(-1, -1, value.shape[2]))
        width = self._grid(x)[1]
        return self._add(x, attend(query, key, value, self.weighting, width=width))

    def _draw(self, batch: int, count: int) -> Tensor:
        """Draw ``samples`` distinct positions for each image: [B, samples]."""
        generator = None if self.training else torch.Generator().manual_seed(self.seed)
        noise = torch.rand(batch, count, generator=generator)
        return noise.topk(self.samples or count, dim=1).indices

    def extra_repr(self) -> str:
        """What the printed module shows."""
        return (
            f"samples={self.samples}, residual_scale={self.residual_scale}, patch={self.patch}, "
            f"weighting={self.weighting!r}"
        )


class InScaleAttention(NLA):
    """NLA without its skip connection, for networks that combine it with others themselves.

    Args:
        channels: C of the features.
        reduction: C / reduction channels for query and key.
        applications: how often a forward pass of the network applies it.
    """

    def __init__(self, channels: int, reduction: int = 2, applications: int = 1) -> None:
        super().__init__(channels, reduction)
        self.applications = applications

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        query, key, value = self.tokens(x)
        return self._image(x, attend(query, key, value, self.weighting, width=x.shape[-1]))

"""How much context a tile needs, measured on the network itself.

A network's receptive field is what could reach a pixel; what does is much less, as influence fades
with distance. A textured image is upscaled in one piece and with a part of it missing; the context
is enough when pixels that far from the missing part change by less than rounding to 8 bits shows.
Attention over the image never gets there: what counts then is that more context changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CUSTOMARY = 16  # LR pixels, where nothing was measured
STEPS = (4, 8, 12, 16, 24, 32, 48, 64)  # more would cost more than it shows
INVISIBLE = 0.5 / 255
_SIZE = (24, 192)  # long, as the cut goes through the middle of its length
_SLACK = 1.25  # what is within so much of the best isn't worth more context


@torch.no_grad()
def reach(model: nn.Module, scale: int, device: torch.device) -> int:
    """LR pixels around a tile from which on its seams are invisible; one of STEPS.

    Args:
        model: [1, 3, h, w] → [1, 3, s·h, s·w], in eval mode.
        scale: s.
        device: where its weights are.
    """
    image = _texture().to(device)
    cut = image.shape[-1] // 2
    whole: Tensor = model(image).float()
    errors: list[float] = []
    for context in STEPS:
        part: Tensor = model(image[..., cut - context :]).float()
        kept = part[..., context * scale :] - whole[..., cut * scale :]
        errors.append(float(kept.abs().max()))
        if errors[-1] < INVISIBLE:
            return context
    return next(c for c, e in zip(STEPS, errors, strict=True) if e <= _SLACK * errors[-1])


def _texture() -> Tensor:
    """[1, 3, H, W] in [0, 1] with detail of every size, as photographs have."""
    generator = torch.Generator().manual_seed(0)
    height, width = _SIZE
    total = torch.zeros(1, 3, height, width)
    for side in (1, 2, 4, 8):
        noise = torch.rand(1, 3, height // side, width // side, generator=generator)
        total += noise.repeat_interleave(side, 2).repeat_interleave(side, 3)
    return total / 4

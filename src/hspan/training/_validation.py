"""PSNR on a small benchmark while training, by the protocol of the final evaluation."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hspan.data import find_pairs, load_pair
from hspan.metrics import psnr


class ValidationSet:
    """A benchmark held in memory.

    Args:
        folder: images in a layout that ``hspan.data.find_pairs`` knows.
        scale: ratio of HR to LR; also the border that isn't scored.
        kind: degradation, "BI" or "BD".

    Raises:
        InputError: the folder or one of its images can't be used; a score over fewer images than
            intended would mislead.
    """

    def __init__(self, folder: str | Path, scale: int, kind: str) -> None:
        self._scale = scale
        self._images = [load_pair(pair, scale, kind) for pair in find_pairs(folder, scale, kind)]

    def score(self, network: nn.Module) -> float:
        """Mean PSNR on Y of whole images, in float32, quantised to 8 bits, border removed.

        Args:
            network: on any device; its mode is restored.

        Returns:
            dB.
        """
        device = next(network.parameters()).device
        was_training = network.training
        network.eval()
        scores: list[float] = []
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            for hr, lr in self._images:
                x = torch.from_numpy(np.ascontiguousarray(lr)).to(device).permute(2, 0, 1)[None]
                sr = to_bytes(network(x.float() / 255)[0])
                scores.append(psnr(sr, hr, self._scale))
        network.train(was_training)
        return sum(scores) / len(scores)


def to_bytes(image: Tensor) -> np.ndarray:
    """Quantise [3, H, W] in [0, 1] to [H, W, 3], uint8."""
    return (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()

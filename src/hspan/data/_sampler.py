"""Random patches, each batch a function of seed and step alone.

Section IV-A: LR patches of 48×48 with the HR patches above them, random 90° rotations and
horizontal flips, which together are the eight symmetries of the square.

A batch doesn't depend on those before it: its random numbers come from a generator seeded with
(seed, step). Resuming needs no state, and devices share a batch by taking slices of it.

Departure: images are drawn in proportion to their area rather than equally often, because folders
may mix photographs with thumbnails; for images of one size, as almost in DIV2K, both are the same.
"""

import numpy as np
import torch
from torch import Tensor

from hspan.data._cache import ImageCache
from hspan.errors import InputError, UsageError


class PatchSampler:
    """Draws batches of aligned LR and HR patches from a cache.

    Args:
        cache: the images; those smaller than a patch are left out.
        batch_size: patches per step, over all devices.
        patch: side of an LR patch, in pixels; the HR patch is ``cache.scale`` times larger.
        seed: chooses the sequence of batches.
        rank: this device among ``world_size``, counted from 0.
        world_size: number of devices that share each batch.

    Raises:
        InputError: no image is as large as a patch.
        UsageError: ``batch_size`` can't be shared equally.
    """

    def __init__(
        self,
        cache: ImageCache,
        *,
        batch_size: int = 16,
        patch: int = 48,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise UsageError(
                f"data.batch_size={batch_size} can't be shared by {world_size} devices"
            )
        large = [image for image in cache.images if min(image.height, image.width) >= patch]
        if not large:
            side = patch * cache.scale
            raise InputError(f"{cache.folder}: every image is smaller than a {side}×{side} patch")
        self._batch_size = batch_size
        self._patch = patch
        self._scale = cache.scale
        self._seed = seed
        share = batch_size // world_size
        self._own = slice(rank * share, (rank + 1) * share)
        self._images = large
        area = np.cumsum([image.height * image.width for image in large], dtype=np.float64)
        self._shares = area / area[-1]
        self._hr, self._lr = cache.open_hr(), cache.open_lr()

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Draw the batch of one training step.

        Args:
            step: counted from 0.

        Returns:
            LR [B, 3, patch, patch] and HR [B, 3, scale * patch, scale * patch], uint8 RGB in
            channels-last memory; B is this device's share of ``batch_size``.
        """
        # Uniform numbers are all that is asked of the generator: their stream is the one part of
        # numpy's distributions that doesn't change between versions.
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self._seed, step])))
        which, row, column, symmetry = generator.random((4, self._batch_size))[:, self._own]
        chosen = np.searchsorted(self._shares, which, side="right")
        size, scale = self._patch, self._scale
        lr = np.empty((len(which), size, size, 3), np.uint8)
        hr = np.empty((len(which), size * scale, size * scale, 3), np.uint8)
        for i, index in enumerate(chosen):
            image = self._images[index]
            top = int(row[i] * (image.height - size + 1))
            left = int(column[i] * (image.width - size + 1))
            k = int(symmetry[i] * 8)
            for out, data, start, s in (
                (lr, self._lr, image.lr_start, 1),
                (hr, self._hr, image.hr_start, scale),
            ):
                height, width = image.height * s, image.width * s
                pixels = data[start : start + height * width * 3].reshape(height, width, 3)
                cut = pixels[top * s : (top + size) * s, left * s : (left + size) * s]
                turn(cut, k, out[i])
        return _channels_first(lr), _channels_first(hr)


def turn(patch: np.ndarray, k: int, out: np.ndarray) -> None:
    """Write one of the eight symmetries of a square patch into ``out``.

    Args:
        patch: [P, P, 3], uint8, channels contiguous.
        k: 0 to 7: ``k % 4`` quarter turns, after a horizontal flip for k >= 4.
        out: [P, P, 3], uint8, contiguous.
    """
    source = patch[:, ::-1] if k >= 4 else patch
    out[...] = np.rot90(source, k % 4)


def _channels_first(patches: np.ndarray) -> Tensor:
    return torch.from_numpy(patches).permute(0, 3, 1, 2)

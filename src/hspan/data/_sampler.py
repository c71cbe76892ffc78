"""Random patches, each batch a function of seed and step alone.

Section IV-A: LR patches of 48×48 with the HR patches above them, random 90° rotations and
horizontal flips, which together are the eight symmetries of the square.

A batch doesn't depend on those before it: its random numbers come from a generator seeded with
(seed, step). Resuming needs no state, and devices share a batch by taking slices of it.

Departure: images are drawn in proportion to their area rather than equally often, because folders
may mix photographs with thumbnails; for images of one size, as almost in DIV2K, both are the same.

Skies and walls teach little. Where ``candidates`` is more than 1, so many windows are drawn for
each patch, and the one whose HR pixels differ most from what their neighbours promise is taken.
"""

import numpy as np
import torch
from torch import Tensor

from hspan.data._cache import CachedImage, ImageCache
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
        candidates: windows drawn for each patch, of which the most detailed one is taken.

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
        candidates: int = 1,
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
        self._candidates = candidates
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
        shape = (4, self._batch_size, self._candidates)
        which, row, column, symmetry = generator.random(shape)[:, self._own]
        chosen = np.searchsorted(self._shares, which, side="right")
        size, scale = self._patch, self._scale
        lr = np.empty((len(which), size, size, 3), np.uint8)
        hr = np.empty((len(which), size * scale, size * scale, 3), np.uint8)
        for i, candidates in enumerate(chosen):
            windows = [
                self._window(self._images[index], row[i, j], column[i, j])
                for j, index in enumerate(candidates)
            ]
            best = 0
            if len(windows) > 1:
                best = max(range(len(windows)), key=lambda j: detail(windows[j][1]))
            k = int(symmetry[i, best] * 8)
            turn(windows[best][0], k, lr[i])
            turn(windows[best][1], k, hr[i])
        return _channels_first(lr), _channels_first(hr)

    def _window(
        self, image: CachedImage, row: float, column: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Views of the LR and HR pixels at a place given by two numbers in [0, 1)."""
        size = self._patch
        top = int(row * (image.height - size + 1))
        left = int(column * (image.width - size + 1))
        cuts: list[np.ndarray] = []
        for data, start, s in (
            (self._lr, image.lr_start, 1),
            (self._hr, image.hr_start, self._scale),
        ):
            height, width = image.height * s, image.width * s
            pixels = data[start : start + height * width * 3].reshape(height, width, 3)
            cuts.append(pixels[top * s : (top + size) * s, left * s : (left + size) * s])
        return cuts[0], cuts[1]


def detail(patch: np.ndarray) -> float:
    """How much of a patch its neighbouring pixels don't tell: mean second difference of green.

    Args:
        patch: [P, P, 3], uint8; 0 where P is less than 3.
    """
    if len(patch) < 3:
        return 0.0
    green = patch[..., 1].astype(np.int16)
    down = np.abs(2 * green[1:-1] - green[:-2] - green[2:]).mean()
    right = np.abs(2 * green[:, 1:-1] - green[:, :-2] - green[:, 2:]).mean()
    return float(down + right)


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

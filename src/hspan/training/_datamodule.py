"""Batches for Lightning, drawn by a thread while the device computes."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import lightning as L
import torch
from torch import Tensor

from hspan.data import ImageCache, PatchSampler
from hspan.training._recipe import Recipe


class Batches:
    """The endless sequence of batches from the current step on, one drawn ahead.

    Args:
        sampler: draws them.
        first_step: asked when iteration begins.
        pin: place batches in page-locked memory, for copies that overlap with computing.

    Attributes:
        wait_seconds: how long the training loop has waited for batches.
    """

    def __init__(self, sampler: PatchSampler, first_step: Callable[[], int], pin: bool) -> None:
        self._sampler = sampler
        self._first_step = first_step
        self._pin = pin
        self.wait_seconds = 0.0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        step = self._first_step()
        with ThreadPoolExecutor(1, thread_name_prefix="hspan-batches") as pool:
            following = pool.submit(self._draw, step)
            while True:
                start = time.perf_counter()
                batch = following.result()
                self.wait_seconds += time.perf_counter() - start
                step += 1
                following = pool.submit(self._draw, step)
                yield batch

    def _draw(self, step: int) -> tuple[Tensor, Tensor]:
        lr, hr = self._sampler.batch(step)
        return (lr.pin_memory(), hr.pin_memory()) if self._pin else (lr, hr)


class PatchDataModule(L.LightningDataModule):
    """Training batches of a recipe from a cache of images.

    Args:
        cache: the images.
        recipe: the settings.

    Attributes:
        batches: the sequence in use, once training has begun.
    """

    def __init__(self, cache: ImageCache, recipe: Recipe) -> None:
        super().__init__()
        self.cache = cache
        self.recipe = recipe
        self.batches: Batches | None = None

    def train_dataloader(self) -> Any:
        """Lightning takes any iterable; worker processes would have nothing to do."""
        trainer = self.trainer
        assert trainer is not None
        sampler = PatchSampler(
            self.cache,
            batch_size=self.recipe.data.batch_size,
            patch=self.recipe.data.patch,
            seed=self.recipe.training.seed,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            candidates=self.recipe.data.candidates,
        )
        self.batches = Batches(
            sampler,
            first_step=lambda: trainer.global_step,
            pin=trainer.strategy.root_device.type == "cuda" and torch.cuda.is_available(),
        )
        return self.batches

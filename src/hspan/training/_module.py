"""One training step, and what a checkpoint must hold to repeat it.

Nothing here waits for the device: losses and norms stay tensors until a row of the log is written,
and whether a step is skipped is decided on the device. Only the rare search for dead units waits.
"""

import logging
import time
from copy import deepcopy
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hspan.data import ImageCache, PatchSampler
from hspan.errors import HspanError
from hspan.models import SPMSR
from hspan.training._dictionary import fit_spmsr
from hspan.training._muon import Muon
from hspan.training._recipe import Recipe
from hspan.training._revive import revive_units
from hspan.training._schedule import lr_factor
from hspan.training._transfer import transfer_weights

_log = logging.getLogger(__name__)

_STATISTICS = 16  # batches that statistics are taken of
_MOST_SKIPPED = 50  # consecutive non-finite steps after which a run is given up


class DivergenceError(HspanError):
    """The loss or its gradient stayed infinite or NaN for many steps in a row."""


class SRTrainingModule(L.LightningModule):
    """A network, its average over the steps, and an optimizer of the recipe's loss.

    Steps are skipped when the loss or the gradient isn't finite: weights and the optimizer's state
    stay as they are, the step counts.

    Args:
        network: maps [B, 3, H, W] in [0, 1] to [B, 3, scale * H, scale * W].
        recipe: the settings.

    Attributes:
        network: the weights that are trained.
        average: their exponential moving average in float32; None without ``training.ema``.
        skipped: number of steps skipped so far, int64 on the device.
        skipped_in_a_row: how many of the latest steps were skipped.
    """

    skipped: Tensor
    skipped_in_a_row: Tensor

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.automatic_optimization = False  # a step that is skipped on the device needs this
        self.recipe = recipe
        if recipe.training.channels_last:
            network = cast(Any, network).to(memory_format=torch.channels_last)
        self.network = network
        self._loss = F.l1_loss if recipe.training.loss == "l1" else F.mse_loss
        self.average = deepcopy(network).requires_grad_(False) if recipe.training.ema else None
        self.register_buffer("skipped", torch.zeros((), dtype=torch.int64))
        self.register_buffer("skipped_in_a_row", torch.zeros((), dtype=torch.int64))
        self._clock: float | None = None  # when a run without interruptions would have begun
        self._seconds = 0.0
        self._loss_sum: Tensor | None = None
        self._loss_count = 0
        self._grad_norm: Tensor | None = None

    @property
    def seconds(self) -> float:
        """Time spent in training and scoring so far, over all parts of an interrupted run."""
        return self._seconds if self._clock is None else time.monotonic() - self._clock

    @property
    def result(self) -> nn.Module:
        """The network to score and export: the average where there is one."""
        return self.network if self.average is None else self.average

    def start_from(self, source: str) -> str:
        """Take over the weights of another network, before training.

        Args:
            source: as for ``transfer_weights``, whose sentence is returned.
        """
        sentence = transfer_weights(source, self.network)
        if self.average is not None:
            self.average.load_state_dict(self.network.state_dict())
        return sentence

    def start_from_images(self, cache: ImageCache) -> None:
        """Give a network that begins with statistics of its images, SPMSR, these statistics.

        Args:
            cache: the training images.
        """
        if not isinstance(self.network, SPMSR):
            return
        data = self.recipe.data
        sampler = PatchSampler(
            cache,
            batch_size=_STATISTICS * data.batch_size,
            patch=data.patch,
            seed=self.recipe.training.seed,
            candidates=data.candidates,
        )
        lr, hr = (part.float() / 255 for part in sampler.batch(0))
        fit_spmsr(self.network, lr, hr, steps=0, seed=self.recipe.training.seed)
        if self.average is not None:
            self.average.load_state_dict(self.network.state_dict())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, in its fused form where that exists, or Muon."""
        settings = self.recipe.optimizer
        if settings.name == "muon":
            return Muon(
                self.network.named_parameters(),
                lr=settings.lr,
                matrix_lr=settings.matrix_lr,
                betas=settings.betas,
                eps=settings.eps,
            )
        return torch.optim.Adam(
            self.network.parameters(),
            # A tensor would be needed for compiled optimizers only; the value is set at each step.
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            fused=self.device.type in ("cpu", "cuda"),
        )

    def on_fit_start(self) -> None:
        """Compile the network if asked to; names of parameters stay the same."""
        if self.recipe.training.compile:
            self.network.compile()

    def on_train_start(self) -> None:
        """Start the clock."""
        self._clock = time.monotonic() - self._seconds

    def on_train_end(self) -> None:
        """Stop the clock."""
        self._seconds, self._clock = self.seconds, None

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Update the weights once.

        Args:
            batch: LR [B, 3, P, P] and HR [B, 3, scale * P, scale * P], uint8.
            batch_idx: not used; the step is ``global_step``.
        """
        recipe, step = self.recipe, self.global_step
        # Networks may draw random numbers; like the batches, they depend on the step alone.
        seeds = np.random.SeedSequence([recipe.training.seed, step, self.global_rank])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        optimizer = cast(Any, self.optimizers())
        factor = lr_factor(recipe.schedule, step, recipe.training.max_steps)
        for group in optimizer.param_groups:
            full = recipe.optimizer.matrix_lr if "momentum" in group else recipe.optimizer.lr
            group["lr"] = full * factor

        lr, hr = (images.float() / 255 for images in batch)
        if recipe.training.revive_every and step % recipe.training.revive_every == 0:
            self._revive(optimizer, lr, step)
        loss = self._loss(self.network(lr).float(), hr)
        optimizer.zero_grad()
        self.manual_backward(loss)
        norm = nn.utils.clip_grad_norm_(
            self.network.parameters(), recipe.optimizer.clip or float("inf")
        )
        loss = loss.detach()
        self._step_unless(~(torch.isfinite(loss) & torch.isfinite(norm)), optimizer)
        self._update_average(step)

        self._loss_sum = loss if self._loss_sum is None else self._loss_sum + loss
        self._loss_count += 1
        self._grad_norm = norm

    def _revive(self, optimizer: Any, lr: Tensor, step: int) -> None:
        several = self.trainer.world_size > 1
        count = revive_units(
            self.network,
            self.average,
            optimizer.optimizer,
            lr,
            self.recipe.training.seed + step,  # the same on all devices
            cast(Any, self.all_gather) if several else lambda t: t[None],
        )
        if count:
            _log.info("step %d: %d units that never fired were drawn anew", step, count)

    def _step_unless(self, bad: Tensor, optimizer: Any) -> None:
        if self.trainer.world_size > 1:  # all devices must decide alike
            bad = cast(Tensor, self.trainer.strategy.reduce(bad.float(), reduce_op="sum")) > 0
        self.skipped += bad
        self.skipped_in_a_row += 1
        self.skipped_in_a_row *= bad
        adam = optimizer.optimizer
        if getattr(adam, "_step_supports_amp_scaling", False):
            adam.found_inf = bad.float()  # the fused kernels leave everything as it is where set
        elif bad:
            optimizer.zero_grad()
        optimizer.step()

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        if self.average is None:
            return
        # Early on, a long memory would only preserve the initial weights.
        decay = min(self.recipe.training.ema, (1 + step) / (10 + step))
        means: list[Tensor] = list(self.average.parameters())
        weights: list[Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(means, weights, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        for mean, buffer in zip(self.average.buffers(), self.network.buffers(), strict=True):
            mean.copy_(buffer)

    def take_log(self) -> dict[str, float]:
        """Means since the last call, waiting for the device.

        Returns:
            ``loss``, ``grad_norm`` (of the latest step), ``lr``, ``skipped`` (in all).

        Raises:
            DivergenceError: nothing but skipped steps for a long time.
        """
        if self.skipped_in_a_row >= _MOST_SKIPPED:
            raise DivergenceError(
                f"the loss or its gradient wasn't finite for {int(self.skipped_in_a_row)} steps in "
                f"a row, up to step {self.global_step}; start again with a lower optimizer.lr or "
                "optimizer.clip=0.5"
            )
        assert self._loss_sum is not None
        assert self._grad_norm is not None
        log = {
            "loss": float(self._loss_sum) / self._loss_count,
            "grad_norm": float(self._grad_norm),
            "lr": float(cast(Any, self.optimizers()).param_groups[0]["lr"]),
            "skipped": float(self.skipped),
        }
        self._loss_sum, self._loss_count = None, 0
        return log

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the settings and the time spent so far."""
        checkpoint["recipe"] = self.recipe.as_dict()
        checkpoint["seconds"] = self.seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the time spent so far."""
        self._seconds = checkpoint["seconds"]

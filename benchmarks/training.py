"""How much of a training step is spent on convolutions.

Trains a recipe for some steps through the project's own loop, data included, and between steps runs
the network's convolutions alone, forward and backward, on tensors of the same shapes, precision and
memory layout. Both alternate in one process, so that whatever else the machine does slows both.

    python benchmarks/training.py hspan-light_x2 data.train=DIR --steps 30 --json out.json

Attention costs what the features make it cost: give trained weights as training.init_from=FILE.
"""

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from hspan import __version__
from hspan.data import build_cache
from hspan.models import create_model
from hspan.training import SRTrainingModule, load_recipe, transfer_weights
from hspan.training._datamodule import PatchDataModule

WARM_UP = 5  # steps that are not counted


class Convolutions:
    """The convolutions of a network, each run by itself.

    Args:
        network: whose convolutions.
        lr: [B, 3, H, W] batch that tells the shapes.
        autocast: context in which the network runs.
    """

    def __init__(self, network: nn.Module, lr: Tensor, autocast: Callable[[], Any]) -> None:
        self._autocast = autocast
        self._calls: list[tuple[nn.Conv2d, Tensor, Tensor]] = []

        def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(module, nn.Conv2d)
            given = inputs[0].detach().clone()
            # The first layer's input needs no gradient in training either.
            given.requires_grad_(bool(self._calls))
            self._calls.append((module, given, torch.randn_like(output)))

        handles = [
            m.register_forward_hook(record) for m in network.modules() if isinstance(m, nn.Conv2d)
        ]
        with torch.no_grad(), autocast():
            network(lr)
        for handle in handles:
            handle.remove()

    def run(self) -> None:
        """Forward and backward through each."""
        for module, given, gradient in self._calls:
            with self._autocast():
                output = module(given)
            wanted = [t for t in (given, *module.parameters()) if t.requires_grad]
            torch.autograd.grad(output, wanted, gradient)


class Stopwatch(L.Callback):
    """Times whole steps, from one to the next, and the convolutions between them."""

    def __init__(self, autocast: Callable[[], Any]) -> None:
        self._autocast = autocast
        self._convolutions: Convolutions | None = None
        self._start = 0.0
        self.steps: list[float] = []
        self.convolutions: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        synchronise()
        if self._convolutions is None:
            self._convolutions = Convolutions(pl_module.network, batch[0] / 255, self._autocast)
        elif batch_idx > WARM_UP:
            self.steps.append(time.perf_counter() - self._start)
        start = time.perf_counter()
        self._convolutions.run()
        synchronise()
        if batch_idx > WARM_UP:
            self.convolutions.append(time.perf_counter() - start)
        self._start = time.perf_counter()


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    steps = arguments.steps + WARM_UP + 1
    recipe = load_recipe(arguments.recipe, [*arguments.settings, f"training.max_steps={steps}"])
    torch.manual_seed(recipe.training.seed)
    network = create_model(recipe.model.name, scale=recipe.model.scale, **recipe.model.config)
    if recipe.training.init_from:
        print(transfer_weights(recipe.training.init_from, network))
    bf16 = recipe.training.precision == "bf16"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    stopwatch = Stopwatch(lambda: torch.autocast(device, torch.bfloat16, enabled=bf16))
    cache = build_cache(
        recipe.data.train,
        recipe.model.scale,
        recipe.data.kind,
        cache_folder=recipe.data.cache or None,
    )
    data = PatchDataModule(cache, recipe)
    trainer = L.Trainer(
        accelerator=device,
        devices=1,
        precision="bf16-mixed" if bf16 else "32-true",
        max_steps=steps,
        max_epochs=-1,
        callbacks=[stopwatch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tempfile.gettempdir(),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # as in hspan.training
        trainer.fit(SRTrainingModule(network, recipe), datamodule=data)

    step = statistics.median(stopwatch.steps)
    convolutions = statistics.median(stopwatch.convolutions)
    waited = data.batches.wait_seconds / steps
    result = {
        "recipe": recipe.as_dict(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "hspan": __version__,
        "steps": len(stopwatch.steps),
        "step_seconds": step,
        "convolution_seconds": convolutions,
        "fraction": convolutions / step,
        "data_wait_seconds": waited,
    }
    print(
        f"step {step * 1e3:.1f} ms, its convolutions alone {convolutions * 1e3:.1f} ms: "
        f"{result['fraction']:.0%} of the throughput of convolutions; "
        f"waiting for data {waited * 1e3:.2f} ms"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

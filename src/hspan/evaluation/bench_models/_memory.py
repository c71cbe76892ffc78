"""Peak memory of one forward pass: in a fresh process, or as a GPU's allocator counts it."""

import json
import sys
from collections.abc import Callable

import torch

from hspan.evaluation._process_memory import in_fresh_process, peak_of
from hspan.evaluation.bench_models._competitor import Competitor
from hspan.evaluation.bench_models._settings import ModelSettings

_WARM_SIDE = 16  # pixels: loads libraries and starts threads


def peak_memory(model: str, settings: ModelSettings, height: int, width: int) -> int:
    """Measure the bytes that a forward pass on the processor needs beside weights and input.

    Raises:
        InputError: the process failed, as for want of memory, or this system can't say how much a
            process held.
    """
    task = {
        "model": model,
        "scale": settings.scale,
        "precision": settings.precision,
        "seed": settings.seed,
        "size": [height, width],
        "threads": torch.get_num_threads(),
    }
    return int(in_fresh_process(__name__, task, model)["bytes"])


def peak_on_gpu(run: Callable[[], object], device: torch.device) -> int:
    """The same on a CUDA device, in this process."""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    return torch.cuda.max_memory_allocated(device) - before


def main() -> None:
    """Run in the fresh process: a task as JSON on stdin, the measured bytes as JSON on stdout."""
    task = json.load(sys.stdin)
    torch.set_num_threads(task["threads"])
    settings = ModelSettings(
        models=(task["model"],),
        scale=task["scale"],
        precision=task["precision"],
        seed=task["seed"],
    )
    competitor = Competitor(task["model"], settings, torch.device("cpu"))
    competitor.on(_WARM_SIDE, _WARM_SIDE)()
    work = competitor.on(*task["size"])
    print(json.dumps({"bytes": peak_of(work)}))

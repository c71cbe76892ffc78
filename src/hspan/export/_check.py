"""Whether an exported program computes what the network computes, at sizes it was not made at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from hspan.errors import HspanError
from hspan.export._packages import package

SIZES = ((16, 16), (17, 23), (40, 31), (25, 64), (63, 50))
"""Height and width of the images that exports are checked with; most sides are odd."""

TOLERANCE = 1e-4
"""Of the range [0, 1], for programs in float32."""

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Deviation:
    """How far a program's output lies from the network's for one random image."""

    height: int
    width: int
    largest: float  # |difference|, of the range [0, 1]


def deviations(
    run: Run, model: nn.Module, sizes: Sequence[tuple[int, int]] = SIZES
) -> list[Deviation]:
    """Compare a program with its network on one random image of each size.

    Args:
        run: maps [1, 3, H, W] float32 to [1, 3, sH, sW].
        model: the network, on the processor.
        sizes: height and width in pixels.

    Raises:
        HspanError: an output has another shape than the network's, or isn't finite.
    """
    generator = torch.Generator().manual_seed(0)
    found: list[Deviation] = []
    for height, width in sizes:
        image = torch.rand(1, 3, height, width, generator=generator)
        with torch.inference_mode():
            wanted = model(image).numpy()
        got = run(image.numpy())
        if got.shape != wanted.shape or not np.isfinite(got).all():
            raise HspanError(
                f"the exported program gives {list(got.shape)} at {height}×{width}, "
                f"with{'' if np.isfinite(got).all() else ' not'} only finite values, where the "
                f"network gives {list(wanted.shape)}; please report this"
            )
        found.append(Deviation(height, width, float(np.abs(got - wanted).max())))
    return found


def require_within(found: Sequence[Deviation], tolerance: float) -> None:
    """Raise ``HspanError`` where a deviation is larger than the tolerance."""
    worst = max(found, key=lambda deviation: deviation.largest)
    if worst.largest > tolerance:
        raise HspanError(
            f"the exported program differs from the network by {worst.largest:.1e} at "
            f"{worst.height}×{worst.width}, more than {tolerance:.0e}; please report this"
        )


def onnx_runner(content: bytes, threads: int | None = None) -> Run:
    """A function that runs an ONNX file's bytes in ONNX Runtime on the processor.

    Raises:
        UsageError: ONNX Runtime is missing.
        HspanError: ONNX Runtime refuses the model.
    """
    onnxruntime = package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base class
        raise HspanError(f"ONNX Runtime refuses the model: {error}") from error
    name = session.get_inputs()[0].name

    def run(image: np.ndarray) -> np.ndarray:
        return session.run(None, {name: image})[0]

    return run

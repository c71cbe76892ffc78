"""What can be measured, checked before anything is computed."""

from dataclasses import dataclass, field
from pathlib import Path

from hspan.errors import UsageError
from hspan.hardware import DTYPES, Precision
from hspan.models import MODELS, list_models, network_entry


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """What to measure.

    Attributes:
        models: names of the registry (with random weights) and checkpoint files; ratios are over
            the first.
        scale: upscaling factor.
        sizes: height and width of the LR images, a case each.
        device: "auto", or what torch calls it.
        precision: "fp32", or "bf16" or "fp16" by autocast.
        threads: of torch; None leaves them as they are.
        budget: seconds for all times together; about, and without warm-up and memory.
        memory: measure peak memory too.
        seed: of random weights and of the image.
    """

    models: tuple[str, ...] = field(default_factory=lambda: tuple(list_models()))
    scale: int = 4
    sizes: tuple[tuple[int, int], ...] = ((64, 64),)
    device: str = "auto"
    precision: Precision = "fp32"
    threads: int | None = None
    budget: float = 120.0
    memory: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked before anything is computed."""
        if not self.models or not self.sizes:
            raise UsageError("there is no model or no size to measure")
        for name in self.models:
            if name not in MODELS and not Path(name).is_file():
                network_entry(name)  # raises, with the nearest names
        if len(set(self.models)) < len(self.models):
            raise UsageError("every model is measured once; name each of them once")
        if self.scale not in (2, 3, 4):
            raise UsageError(f"scale must be 2, 3 or 4, got {self.scale}")
        for height, width in self.sizes:
            if height < 8 or width < 8:
                raise UsageError(f"sizes must be at least 8×8 LR pixels, got {height}×{width}")
        if self.precision not in DTYPES:
            raise UsageError(f"precision must be {', '.join(DTYPES)}, got {self.precision!r}")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads must be at least 1, got {self.threads}")
        if not self.budget > 0:
            raise UsageError(f"the budget must be more than 0 seconds, got {self.budget:g}")

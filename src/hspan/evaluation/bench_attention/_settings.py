"""What can be measured, checked before anything is computed."""

from dataclasses import dataclass
from pathlib import Path

from hspan.errors import UsageError
from hspan.evaluation.bench_attention._features import Kind, check_features
from hspan.evaluation.bench_attention._methods import DIRECTIONS, Direction, choose_methods


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Attributes:
        tokens: every N.
        features: "photo", "network" or "gaussian".
        channels: D of photo and gaussian features; query and key have half as many.
        support: mean T that photo and gaussian features are scaled to.
        directions: of "forward", "forward+saved" and "forward+backward".
        methods: names in METHODS; None is all. Ours is always measured.
        threads: of torch; None leaves them as they are.
        budget: seconds for all times together; about, and without features, errors and memory.
        memory: measure peak memory too, in processes of their own.
        image: photograph to take features from; None as in ``draw_features``.
        seed: of the features.
    """

    tokens: tuple[int, ...] = (2304, 4096, 9216)
    features: Kind = "photo"
    channels: int = 192
    support: float = 32.0
    directions: tuple[Direction, ...] = ("forward",)
    methods: tuple[str, ...] | None = None
    threads: int | None = None
    budget: float = 60.0
    memory: bool = False
    image: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked before anything is computed."""
        if not self.tokens or not self.directions:
            raise UsageError("there is no number of tokens or no direction to measure")
        for tokens in self.tokens:
            check_features(self.features, tokens, self.channels, self.support)
        for direction in self.directions:
            if direction not in DIRECTIONS:
                raise UsageError(f"directions are {', '.join(DIRECTIONS)}, got {direction!r}")
        choose_methods(self.methods)
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads must be at least 1, got {self.threads}")
        if not self.budget > 0:
            raise UsageError(f"the budget must be more than 0 seconds, got {self.budget:g}")

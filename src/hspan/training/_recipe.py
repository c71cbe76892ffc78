"""Recipes: every setting of a training run as a TOML file, checked before anything starts.

A recipe has six tables, one dataclass each. Keys that don't exist are errors, in files and in
overrides alike, because a setting that is silently ignored is found out days later.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, cast, get_origin, get_type_hints

from hspan.errors import UsageError
from hspan.training._recipe_checks import at_most, check, plain, positive, unknown

if sys.version_info >= (3, 11):
    import tomllib
else:  # the same parser under its older name
    import tomli as tomllib  # pyright: ignore[reportMissingImports] (absent on newer versions)

PRECISIONS = ("fp32", "bf16")
LOSSES = ("l1", "mse")
Section = TypeVar("Section")


@dataclass(frozen=True, kw_only=True)
class ModelSection:
    """Table ``[model]``: further keys are fields of the network's own config.

    Attributes:
        name: as in ``hspan.list_models()``.
        scale: ratio of HR to LR.
        config: the further keys.
    """

    name: str
    scale: int
    config: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class DataSection:
    """Table ``[data]``.

    Attributes:
        train: folder of training images, in a layout that ``hspan.data.find_pairs`` knows.
        validation: folder of images to score; empty to go without.
        kind: degradation, "BI" or "BD".
        batch_size: patches per step, over all devices.
        patch: side of an LR patch, in pixels.
        candidates: windows drawn for each patch, of which the most detailed one is taken.
        sizes: sizes that every training image is used in, relative to its own: 1, or less for
            bicubic reductions of it, which show more detail per pixel.
        cache: folder of decoded images; empty for the user's cache folder.
    """

    train: str = ""
    validation: str = ""
    kind: str = "BI"
    batch_size: int = 16  # Section IV-A
    patch: int = 48  # Section IV-A
    candidates: int = 1
    sizes: tuple[float, ...] = (1.0,)
    cache: str = ""

    def __post_init__(self) -> None:
        """Check what can be checked without touching files."""
        if self.kind not in ("BI", "BD"):
            raise UsageError(f"data.kind must be BI or BD, got {self.kind!r}")
        positive(self, "data", "batch_size", "patch", "candidates")
        at_most(self, "data", batch_size=2**20, patch=2**14, candidates=2**6)
        if not self.sizes or not all(0 < size <= 1 for size in self.sizes):
            raise UsageError(
                f"data.sizes must be numbers above 0 and at most 1, got {list(self.sizes)}"
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerSection:
    """Table ``[optimizer]``.

    Attributes:
        name: "adam", or "muon" for the inner convolutions and Adam for the rest.
        lr: Adam's learning rate before any schedule.
        matrix_lr: Muon's learning rate before any schedule.
        betas: decay of Adam's two running means.
        eps: added to Adam's denominator.
        clip: largest norm of the gradient; 0 leaves it as it is.
    """

    name: str = "adam"  # Section IV-A, as are lr, betas and eps
    lr: float = 1e-4
    matrix_lr: float = 0.02  # the better of 0.005, 0.01 and 0.02: docs/hspan-light.md
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.name not in ("adam", "muon"):
            raise UsageError(f"optimizer.name must be adam or muon, got {self.name!r}")
        positive(self, "optimizer", "lr", "matrix_lr", "eps")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"optimizer.betas must be at least 0 and below 1, got {self.betas}")
        if self.clip < 0:
            raise UsageError(f"optimizer.clip must not be negative, got {self.clip}")


@dataclass(frozen=True, kw_only=True)
class ScheduleSection:
    """Table ``[schedule]``: the learning rate over the steps.

    Attributes:
        name: "multistep"; "cosine" (from full to zero over ``training.max_steps``); or "trapezoid"
            (full until the last steps, then linearly to zero: a run of unknown length is trained
            at the full rate, and continued with a larger ``training.max_steps`` from a checkpoint
            before the descent).
        halve_every: steps between halvings; for "multistep" only.
        descent: steps of the descent to zero; for "trapezoid" only.
        warmup: steps of linear rise from zero at the start.
    """

    name: str = "multistep"
    halve_every: int | None = None
    descent: int | None = None
    warmup: int = 0

    def __post_init__(self) -> None:
        """Check that exactly the keys of the named schedule are given."""
        own = {"multistep": "halve_every", "cosine": None, "trapezoid": "descent"}
        if self.name not in own:
            raise UsageError(
                f"schedule.name must be multistep, cosine or trapezoid, got {self.name!r}"
            )
        for key in ("halve_every", "descent"):
            value: int | None = getattr(self, key)
            if key == own[self.name] and (value or 0) < 1:
                raise UsageError(f"schedule.{key} must be given, and above 0, for {self.name}")
            if key != own[self.name] and value is not None:
                raise UsageError(f"schedule.{key} means nothing for {self.name}; leave it out")
        if self.warmup < 0:
            raise UsageError(f"schedule.warmup must not be negative, got {self.warmup}")


@dataclass(frozen=True, kw_only=True)
class TrainingSection:
    """Table ``[training]``.

    Attributes:
        max_steps: length of the run, and of the cosine schedule.
        max_time: stops earlier, such as "90m", "2h" or "300s"; empty for no limit.
        loss: "l1" as in the paper, or "mse", of which PSNR is a function: for the end of a run.
        precision: "fp32", or "bf16" for automatic mixed precision (parameters stay float32).
        channels_last: memory layout; faster wherever convolutions have bfloat16 units.
        compile: use ``torch.compile``.
        ema: decay of the averaged weights that are scored and exported; 0 goes without them.
        revive_every: steps from one search for units that never fire to the next, the first before
            the first step; what is found is drawn anew. 0 never searches.
        seed: chooses initial weights and patches.
        init_from: weights to start from, of another scale if need be; empty for none.
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: how many of them on each machine.
        nodes: machines that the run is spread over (docs/clusters.md).
    """

    max_steps: int
    max_time: str = ""
    loss: str = "l1"  # Section IV-A
    precision: str = "fp32"
    channels_last: bool = True
    compile: bool = False
    ema: float = 0.0
    revive_every: int = 0
    seed: int = 0
    init_from: str = ""
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1

    def __post_init__(self) -> None:
        """Check the ranges and the names."""
        positive(self, "training", "max_steps", "devices", "nodes")
        at_most(self, "training", devices=2**10, nodes=2**16)
        if self.precision not in PRECISIONS:
            raise UsageError(
                f"training.precision must be {' or '.join(PRECISIONS)}, got {self.precision!r}"
            )
        if self.loss not in LOSSES:
            raise UsageError(f"training.loss must be {' or '.join(LOSSES)}, got {self.loss!r}")
        if not 0 <= self.ema < 1:
            raise UsageError(f"training.ema must be at least 0 and below 1, got {self.ema}")
        if self.revive_every < 0:
            raise UsageError(f"training.revive_every must not be negative, got {self.revive_every}")
        if self.seed < 0:
            raise UsageError(f"training.seed must not be negative, got {self.seed}")
        if self.accelerator not in ("auto", "cpu", "cuda", "mps"):
            raise UsageError(
                f"training.accelerator must be auto, cpu, cuda or mps, got {self.accelerator!r}"
            )
        _ = self.max_seconds

    @property
    def max_seconds(self) -> float | None:
        """``max_time`` as a number; None for no limit."""
        if not self.max_time:
            return None
        number, unit = self.max_time[:-1], self.max_time[-1]
        try:
            return float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
        except (KeyError, ValueError) as error:
            raise UsageError(
                f"training.max_time is a number and s, m or h, such as 90m; got {self.max_time!r}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class LoggingSection:
    """Table ``[logging]``.

    Attributes:
        log_every: steps between rows of the log.
        validate_every: steps between scores on ``data.validation``.
        save_every: steps between checkpoints.
        save_minutes: minutes after which one is written anyway.
    """

    log_every: int = 100
    validate_every: int = 1000
    save_every: int = 1000
    save_minutes: float = 4.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        positive(self, "logging", "log_every", "validate_every", "save_every", "save_minutes")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of a training run.

    Attributes:
        name: of the recipe, without ``.toml``.
        model: which network.
        data: which images.
        optimizer: how weights change.
        schedule: how fast, over time.
        training: how long, on what, in which precision.
        logging: what is kept, and how often.
    """

    name: str
    model: ModelSection
    data: DataSection
    optimizer: OptimizerSection
    schedule: ScheduleSection
    training: TrainingSection
    logging: LoggingSection

    def as_dict(self) -> dict[str, Any]:
        """The tables as plain values, the model's further keys among its own, for checkpoints."""
        tables = asdict(self)
        tables["model"] |= tables["model"].pop("config")
        return tables

    def as_toml(self) -> str:
        """The text of a file that ``load_recipe`` reads as this recipe."""
        lines: list[str] = []
        for section, table in self.as_dict().items():
            if section in _SECTIONS:
                lines += ["", f"[{section}]"]
                # Numbers, strings and lists are written alike in JSON and TOML.
                lines += [f"{k} = {json.dumps(v)}" for k, v in table.items() if v is not None]
        return "\n".join(lines).lstrip() + "\n"


_SECTIONS = {
    "model": ModelSection,
    "data": DataSection,
    "optimizer": OptimizerSection,
    "schedule": ScheduleSection,
    "training": TrainingSection,
    "logging": LoggingSection,
}


def list_recipes() -> list[str]:
    """Names of the packaged recipes."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in files("hspan.recipes").iterdir()
        if entry.name.endswith(".toml")
    )


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        source: name of a packaged recipe, or path of a TOML file.
        overrides: words like ``training.max_steps=200``, later ones winning.

    Raises:
        UsageError: no such recipe, unknown key, or a value of the wrong type or range.
    """
    path = Path(source)
    if path.suffix == ".toml":
        try:
            text, name = path.read_text(encoding="utf-8"), path.stem
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"can't read the recipe {path}: {error}") from error
    elif str(source) in list_recipes():
        name = str(source)
        text = (files("hspan.recipes") / f"{name}.toml").read_text(encoding="utf-8")
    else:
        raise UsageError(unknown("recipe", str(source), list_recipes()))
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"the recipe {source} isn't valid TOML: {error}") from error
    return _build(name, _with_overrides(tables, overrides))


def _with_overrides(tables: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    for word in overrides:
        key, equals, text = word.partition("=")
        section, dot, name = key.partition(".")
        if not (equals and dot and name):
            raise UsageError(f"{word!r} is no setting; write section.key=value")
        if section not in _SECTIONS:
            raise UsageError(unknown("section", section, _SECTIONS))
        hints = get_type_hints(_SECTIONS[section])
        tables.setdefault(section, {})[name] = _parse(text, hints.get(name))
    return tables


def _parse(text: str, hint: Any) -> Any:
    """Give the words of a command line the type that the same words have in TOML."""
    if hint is str:
        return text.strip("\"'")
    candidate = f"[{text}]" if get_origin(hint) is tuple and not text.startswith("[") else text
    try:
        value = tomllib.loads(f"value = {candidate}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    # 5e4 is how one says 50000 in a shell.
    return int(value) if hint is int and isinstance(value, float) and value.is_integer() else value


def _build(name: str, tables: Mapping[str, Any]) -> Recipe:
    for section in tables:
        if section not in _SECTIONS:
            raise UsageError(unknown("section", section, _SECTIONS))
    built = {
        section: _build_section(section, cls, tables.get(section, {}))
        for section, cls in _SECTIONS.items()
    }
    return Recipe(name=name, **cast(Any, built))


def _build_section(section: str, cls: type[Section], table: Any) -> Section:
    if not isinstance(table, dict):
        raise UsageError(f"{section} must be a table, [{section}]")
    hints = get_type_hints(cls)
    known = {f.name for f in fields(cast(Any, cls))} - {"config"}
    values: dict[str, Any] = {}
    further: dict[str, Any] = {}
    for key, value in cast(dict[str, Any], table).items():
        if key in known:
            values[key] = check(value, hints[key], f"{section}.{key}")
        elif "config" in hints:
            further[key] = plain(value, f"{section}.{key}")
        else:
            raise UsageError(unknown("key", f"{section}.{key}", [f"{section}.{k}" for k in known]))
    for f in fields(cast(Any, cls)):
        if f.name not in values and f.default is MISSING and f.default_factory is MISSING:
            raise UsageError(f"{section}.{f.name} is missing")
    return cls(**values, **({"config": further} if "config" in hints else {}))

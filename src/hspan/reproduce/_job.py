"""What an experiment is given: where to write, which images, how much work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hspan.errors import UsageError
from hspan.reproduce._settings import load_settings

S = TypeVar("S")


def _silent(sentence: str) -> None:
    """Show nothing."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One call of ``reproduce``.

    Attributes:
        name: of the experiment.
        budget: "quick", "day" or "paper".
        out: folder of all results; the experiment's own is ``out / name``.
        data: folder that holds Set5, Set14, B100, Urban100, Manga109, or some of them.
        train_data: folder of training images.
        weights: checkpoints, or folders of them, beside the shipped weights.
        seeds: instead of those in the settings.
        device: as for ``Upscaler``.
        overrides: settings as ``key=value``.
        settings_file: read instead of the packaged settings.
        say: told what happens next, in a few words.
    """

    name: str
    budget: str = "quick"
    out: Path = Path("results")
    data: Path | None = None
    train_data: Path | None = None
    weights: tuple[Path, ...] = ()
    seeds: tuple[int, ...] | None = None
    device: str = "auto"
    overrides: tuple[str, ...] = ()
    settings_file: Path | None = None
    say: Callable[[str], None] = field(default=_silent)

    @property
    def folder(self) -> Path:
        """Where this experiment writes."""
        return self.out / self.name

    def settings(self, cls: type[S]) -> S:
        """The settings for this budget, with overrides and seeds.

        Raises:
            UsageError: as ``load_settings``, seeds for an experiment that draws nothing, or none
                for one that does.
        """
        words = list(self.overrides)
        if self.seeds is not None:
            if "seeds" not in cls.__dataclass_fields__:  # pyright: ignore[reportAttributeAccessIssue]
                raise UsageError(f"{self.name} draws nothing at random; leave the seeds out")
            words.append(f"seeds={list(self.seeds)}")
        found = load_settings(cls, self.name, self.budget, words, self.settings_file)
        if getattr(found, "seeds", True) == ():
            raise UsageError(f"{self.name} needs at least one seed")
        return found

    def benchmarks(self) -> Path:
        """The folder of benchmark images.

        Raises:
            UsageError: none was given.
        """
        if self.data is None:
            raise UsageError(
                f"{self.name} needs the benchmark images: give the folder that holds Set5, Set14, "
                "B100 and Urban100 as --data DIR"
            )
        return self.data

    def training_images(self) -> Path:
        """The folder of training images.

        Raises:
            UsageError: none was given.
        """
        if self.train_data is None:
            raise UsageError(
                f"{self.name} trains networks: give a folder of images, such as DIV2K_train_HR, as "
                "--train-data DIR"
            )
        return self.train_data

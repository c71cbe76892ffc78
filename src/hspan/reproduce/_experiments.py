"""Every figure and table that can be reproduced, in the paper's order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module

from hspan.errors import HspanError, UsageError
from hspan.reproduce._job import Job
from hspan.reproduce._report import Report, save_page, save_report


@dataclass(frozen=True)
class Experiment:
    """One figure or table: what it shows, and the module that makes it."""

    shows: str
    module: str

    def load(self) -> Callable[[Job], Report]:
        """Import what makes it."""
        return import_module(f"hspan.reproduce.{self.module}").run


EXPERIMENTS = {
    "fig1": Experiment("softmax and soft thresholding of normal numbers", "fig1"),
    "fig2": Experiment("NLA, NLA of random features and HSPA while training", "fig2"),
    "table1": Experiment("LEB, NLA and HSPA on and off", "table1"),
    "fig4": Experiment("attention maps of layers, NLA and HSPA", "fig4"),
    "fig5": Experiment("crops of Set14 and B100", "fig5"),
    "fig6": Experiment("PSNR and time against k", "fig6"),
    "fig7": Experiment("HSPA inserted in FSRCNN, EDSR, RCAN", "fig7"),
    "fig8": Experiment("soft thresholding for softmax in CSNLN, NLSN, SAN", "fig8"),
    "fig9": Experiment("parameters against PSNR", "fig9"),
    "fig10": Experiment("inference time against PSNR", "fig10"),
    "fig11": Experiment("crops of Urban100", "fig11"),
    "fig12": Experiment("crops of Urban100", "fig12"),
    "table2": Experiment("all methods under bicubic reduction, ×2, ×3, ×4", "table2"),
    "table3": Experiment("all methods under blur and decimation, ×3", "table3"),
}


@dataclass(frozen=True)
class Outcome:
    """How an experiment ended.

    Attributes:
        name: of the experiment.
        reason: why there is no report; empty where there is one.
    """

    name: str
    reason: str = ""


def reproduce(job: Job) -> Outcome:
    """Run one experiment and write its report, and the page of all reports anew.

    Raises:
        UsageError: there is no such experiment, setting or folder.
        HspanError: whatever the experiment ends with.
    """
    if job.name not in EXPERIMENTS:
        raise UsageError(
            f"there is no experiment {job.name!r}; choose from {', '.join(EXPERIMENTS)} or all"
        )
    save_report(EXPERIMENTS[job.name].load()(job), job)
    save_page(job.out)
    return Outcome(job.name)


def reproduce_all(job: Job) -> list[Outcome]:
    """Run every experiment; one that can't be run is named, and the rest go on.

    Overrides begin with an experiment's name: ``fig6.tokens=64``.

    Raises:
        UsageError: an override names no experiment, or a settings file is given.
    """
    if job.settings_file is not None:
        raise UsageError("a settings file is of one experiment; name that instead of all")
    words: dict[str, list[str]] = {}
    for word in job.overrides:
        name, dot, rest = word.partition(".")
        if not dot or name not in EXPERIMENTS:
            raise UsageError(f"{word!r}: with all, settings begin with an experiment: fig1.key=…")
        words.setdefault(name, []).append(rest)
    outcomes: list[Outcome] = []
    for name in EXPERIMENTS:
        own = replace(job, name=name, overrides=tuple(words.get(name, ())))
        try:
            outcomes.append(reproduce(own))
        except (HspanError, OSError, MemoryError) as error:
            outcomes.append(Outcome(name, str(error) or type(error).__name__))
            job.say(f"{name}: not done: {outcomes[-1].reason}")
    return outcomes

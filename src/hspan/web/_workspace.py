"""Where the page keeps files while it needs them, and how they go away."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType


class Workspace:
    """A folder for results, each in one of its own; all of it is removed at the end.

    Args:
        keep: seconds after which a result may be removed.
    """

    def __init__(self, keep: float = 3600.0) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hspan-web-"))
        self.keep = keep

    def __enter__(self) -> Workspace:
        """Itself; ``with`` removes it at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def new(self) -> Path:
        """A folder for one result; those of older ones are removed at this opportunity."""
        self.sweep()
        return Path(tempfile.mkdtemp(prefix="result-", dir=self.folder))

    def sweep(self, now: float | None = None) -> None:
        """Remove results that are older than ``keep`` seconds.

        Args:
            now: seconds since the epoch; None is this moment.
        """
        moment = time.time() if now is None else now
        for folder in self.folder.glob("result-*"):
            with suppress(OSError):  # removed by somebody else meanwhile
                if moment - folder.stat().st_mtime > self.keep:
                    shutil.rmtree(folder)

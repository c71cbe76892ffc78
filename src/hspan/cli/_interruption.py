"""Ctrl-C and SIGTERM as a wish that is granted between two tiles."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether a signal has come.

    Attributes:
        number: of the signal; None before.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.number is not None

    @property
    def status(self) -> int:
        """The exit status that tells a shell which signal it was."""
        return 128 + (self.number or signal.SIGINT)

    def take(self, number: int, frame: FrameType | None) -> None:
        """Remember the signal; the second one ends things at once."""
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number


@contextmanager
def interruptible() -> Generator[Interruption]:
    """Take over SIGINT and SIGTERM for a while; only a main thread can."""
    wish = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {n: signal.signal(n, wish.take) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

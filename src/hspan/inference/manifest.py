"""What a batch has done, line by line, so that an interrupted one goes on where it stood.

A manifest is a file of JSON Lines, only ever added to. The first line names the settings; then
every file has a line before its result gets its name, and one after:

    {"manifest": 1, "run": "3f9c02ab", "settings": {"weights": "…", "scale": 2, …}}
    {"source": "/in/a.png", "target": "/out/a_x2.png", "state": "writing",
     "sha256": "…", "bytes": 512, "source_bytes": 99, "source_changed": 1763900000000000000}
    {"source": "/in/a.png", …, "state": "done", …}
    {"source": "/in/b.png", "target": "/out/b_x2.png", "state": "failed", "error": "…"}

Large images, which are written as they are computed, have ``"started"``, without a hash, in the
place of ``"writing"``. Each line is on the disk before anything else happens. So whatever moment a
process ends at, the last whole line of a file tells what became of it: the hash tells a result of
this batch from a file that somebody else put there.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from hspan.errors import InputError, UsageError

_VERSION = 1
STATES = ("started", "writing", "done", "failed")


class ManifestError(InputError):
    """What is done can't be remembered any more: the batch has to end."""


@dataclass(frozen=True)
class Entry:
    """What the manifest says about one file.

    Attributes:
        source: path or address, absolute.
        target: likewise.
        state: "started" (a large image is being computed), "writing" (the result is whole, but
            may not have its name yet), "done" or "failed".
        sha256: of the result.
        bytes: of the result.
        source_bytes: of the input when it was read.
        source_changed: its time of modification, in nanoseconds (of a local file).
        error: why it failed.
    """

    source: str
    target: str
    state: str
    sha256: str | None = None
    bytes: int | None = None
    source_bytes: int | None = None
    source_changed: int | None = None
    error: str | None = None


class Manifest:
    """An open manifest; use it as a context manager.

    Args:
        path: created with its folder where it doesn't exist; otherwise continued.
        settings: what the results depend on, as plain values.

    Attributes:
        run: eight hexadecimal digits, the same in all parts of an interrupted batch.
        continued: whether the file existed.

    Raises:
        UsageError: the manifest is of other settings, or another process is using it.
        InputError: it can't be read or written, or isn't a manifest.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise InputError(f"can't open {self.path}: {error.strerror or error}") from error
        try:
            _claim(self._file.fileno(), self.path)
            header = self._read()
            self.continued = header is not None
            if header is None:
                header = {
                    "manifest": _VERSION,
                    "run": secrets.token_hex(4),
                    "settings": dict(settings),
                }
                self._append(header)
            self._check(header, settings)
            self.run = str(header["run"])
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others use the file."""
        self._file.close()

    def entry(self, source: str) -> Entry | None:
        """The latest word on a file; None if there is none."""
        return self._entries.get(source)

    def record(self, *entries: Entry) -> None:
        """Add lines, and return when they are on the disk; any thread may.

        Raises:
            ManifestError: they can't be written.
        """
        self._append(*({k: v for k, v in asdict(e).items() if v is not None} for e in entries))
        self._entries |= {entry.source: entry for entry in entries}

    def record_failure(self, source: Path, error: str) -> None:
        """Add a line about an input that could not even be tried."""
        self.record(Entry(os.path.abspath(source), "", "failed", error=error))

    def _append(self, *contents: Mapping[str, Any]) -> None:
        lines = (json.dumps(content).encode("ascii") for content in contents)  # odd names escaped
        text = b"".join(line + b"\n" for line in lines)
        with self._lock:
            end = self._file.seek(0, os.SEEK_END)
            try:
                if self._file.write(text) != len(text):
                    raise OSError("the disk is full")
                os.fsync(self._file.fileno())
            except OSError as error:
                with suppress(OSError):
                    self._file.truncate(end)
                raise ManifestError(
                    f"can't write {self.path}: {error.strerror or error}; nothing further is "
                    "done, as it could not be remembered"
                ) from error

    def _read(self) -> dict[str, Any] | None:
        """Take in what is there; half a line at the end is what an ended process left."""
        self._file.seek(0)
        content = self._file.readall() or b""
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        if content and not lines and not b'{"manifest":'.startswith(content[:12]):
            raise InputError(f"{self.path} isn't a manifest of this program: name another file")
        for number, line in enumerate(lines, 1):
            try:
                fields: Any = json.loads(line)
                if number == 1:
                    if fields["manifest"] != _VERSION or not isinstance(fields["settings"], dict):
                        raise ValueError
                    int(fields["run"], 16)
                    continue
                entry = Entry(**fields)
                if entry.state not in STATES:
                    raise ValueError
                self._entries[entry.source] = entry
            except (ValueError, TypeError, KeyError) as error:
                what = "isn't a manifest of this program" if number == 1 else "is damaged"
                raise InputError(
                    f"{self.path} {what} (line {number}): name another file"
                ) from error
        if whole < len(content):
            self._file.truncate(whole)
        return cast("dict[str, Any]", json.loads(lines[0])) if lines else None

    def _check(self, header: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        then: dict[str, Any] = header["settings"]
        now = json.loads(json.dumps(dict(settings)))
        for key in sorted({*then, *now}):
            if then.get(key) != now.get(key):
                raise UsageError(
                    f"{self.path} belongs to a batch with {key} {then.get(key)}, not "
                    f"{now.get(key)}: repeat that call, or name another manifest"
                )


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _claim(descriptor: int, path: Path) -> None:
    """Keep other processes from the file until it is closed, where the system can."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"{path} is in use by another process") from None
    except OSError:  # a file system without locks
        return

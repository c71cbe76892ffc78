"""Files at addresses (``s3://bucket/in``) and paths alike, through fsspec."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from hspan.errors import InputError, UsageError
from hspan.imaging import IMAGE_SUFFIXES

# Where an object appears whole or not at all; elsewhere a file is renamed when it is whole.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}


def is_address(text: str) -> bool:
    """Whether a text is an address with a scheme, and not a path (of Windows included)."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and len(scheme) > 1 and scheme.replace("+", "").isalnum()


@dataclass(frozen=True)
class RemoteFile:
    """A file that was listed.

    Attributes:
        address: with its scheme.
        below: folders between the given one and the file, as text; empty for none.
        bytes: its size.
        changed: when, as nanoseconds since 1970; None where the store doesn't say.
    """

    address: str
    below: str
    bytes: int
    changed: int | None

    @property
    def name(self) -> PurePosixPath:
        """The last part of the address."""
        return PurePosixPath(self.address.rsplit("/", 1)[-1])


class Store:
    """The files at and below an address.

    Args:
        address: a path, or anything that fsspec knows.

    Raises:
        UsageError: fsspec, or what this kind of address needs, isn't installed.
    """

    def __init__(self, address: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise UsageError(
                "addresses and clusters need more packages: pip install 'hspan[cluster]'"
            ) from error
        try:
            found: tuple[Any, str] = url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise UsageError(f"{address} can't be used: {error}") from error
        self.files, self.root = found
        protocol = self.files.protocol
        self._protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self._address = address

    def images(self, *, recursive: bool = False) -> list[RemoteFile]:
        """Images in the folder or by the pattern, or the one file, by name; hidden ones left out.

        Raises:
            InputError: nothing is there, or it can't be listed.
        """
        try:
            found = sorted(self._images(recursive), key=lambda file: file.address)
        except (OSError, ValueError) as error:
            raise InputError(f"{self._address} can't be listed: {error}") from error
        if not found:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise InputError(f"{self._address}: no images there ({kinds})")
        return found

    def _images(self, recursive: bool) -> Iterator[RemoteFile]:
        magic = any(c in self.root for c in "*?[")
        if magic and not self.files.exists(self.root):
            listed: dict[str, dict[str, Any]] = self.files.glob(self.root, detail=True)
            base = self.root[: min(self.root.index(c) for c in "*?[" if c in self.root)]
            base = base.rpartition("/")[0]
        elif self.files.isdir(self.root):
            depth = None if recursive else 1
            listed = self.files.find(self.root, maxdepth=depth, detail=True)
            base = self.root
        else:
            info: dict[str, Any] = self.files.info(self.root)
            yield self._file(self.root, "", info)
            return
        for path, info in listed.items():
            relative = PurePosixPath(path[len(base) :].lstrip("/"))
            hidden = any(part.startswith(".") for part in relative.parts)
            image = relative.suffix.lower() in IMAGE_SUFFIXES
            if image and not hidden and info["type"] == "file":
                below = relative.parent.as_posix()
                yield self._file(path, "" if below == "." else below, info)

    def _file(self, path: str, below: str, info: dict[str, Any]) -> RemoteFile:
        address: str = self.files.unstrip_protocol(path)
        return RemoteFile(address, below, int(info["size"]), _changed(info))

    def sizes(self) -> dict[str, int]:
        """Addresses of all files below the folder, with their sizes; nothing if it isn't there."""
        try:
            self.files.invalidate_cache()
            listed: dict[str, dict[str, Any]] = self.files.find(self.root, detail=True)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise InputError(f"{self._address} can't be listed: {error}") from error
        return {self.files.unstrip_protocol(p): int(i["size"]) for p, i in listed.items()}

    def address(self, *parts: str) -> str:
        """The address of something below the folder."""
        path = "/".join([self.root.rstrip("/"), *(part for part in parts if part)])
        address: str = self.files.unstrip_protocol(path)
        return address


def fetch(address: str, path: Path) -> None:
    """Copy a file from an address.

    Raises:
        InputError: it can't be read.
    """
    store = Store(address)
    try:
        store.files.get_file(store.root, str(path))
    except FileNotFoundError:
        raise InputError(f"{address} doesn't exist") from None
    except Exception as error:  # stores raise what their clients raise
        raise InputError(f"{address} can't be read: {error}") from error


def store(path: Path, address: str) -> None:
    """Copy a file to an address, where it appears when it is whole.

    Raises:
        InputError: it can't be written.
    """
    target = Store(address)
    files, root = target.files, target.root
    try:
        if target._protocols & _OBJECT_STORES:
            files.put_file(str(path), root)
            return
        folder, _, name = root.rpartition("/")
        files.makedirs(folder, exist_ok=True)
        unnamed = f"{folder}/.hspan-{secrets.token_hex(6)}.part"
        try:
            files.put_file(str(path), unnamed)
            files.mv(unnamed, f"{folder}/{name}")
        finally:
            if files.exists(unnamed):
                files.rm_file(unnamed)
    except Exception as error:
        raise InputError(f"{address} can't be written: {error}") from error


def _changed(info: dict[str, Any]) -> int | None:
    when = next((info[k] for k in ("LastModified", "mtime", "updated") if k in info), None)
    if isinstance(when, datetime):
        when = when.timestamp()
    return int(when * 1e9) if isinstance(when, (int, float)) else None

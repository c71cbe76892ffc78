"""The compiled kernels: where their library lies, and which instruction set they run with.

The library is one file beside this one, with a C interface (native/), and is loaded when it is
first asked for. An installation made where no C++ compiler was has none; everything then works
through pure PyTorch, and ``say_missing_once`` tells the user.

Environment variables:
    HSPAN_ISA: name of the instruction set to use, instead of the best that this machine runs.
    HSPAN_LIBRARY: path of the library to load, instead of the installed one.
"""

import ctypes
import logging
import os
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

from hspan.errors import BackendUnavailable, UsageError

ABI_VERSION = 6  # HSPAN_ABI_VERSION in native/hspan.h
_FILE = "_kernels.dll" if sys.platform == "win32" else "_kernels.so"

_log = logging.getLogger(__name__)


def library() -> ctypes.CDLL | None:
    """Return the compiled kernels, loaded once; None where they can't be had."""
    return _load()[0]


def why_missing() -> str:
    """Say in a clause why ``library`` is None; empty if it isn't."""
    return _load()[1]


@cache
def say_missing_once() -> None:
    """Tell the user, the first time in a process, that the slower path computes the attention.

    This is a log record of level WARNING, which Python prints unless told otherwise, rather than a
    warning: nothing in the caller's code is wrong, and it must not turn into an error.
    """
    if reason := why_missing():
        _log.warning(
            "hspan: attention runs in pure PyTorch, exact but several times slower: %s. "
            "(Hide this with logging.getLogger('hspan').setLevel('ERROR').)",
            reason,
        )


def instruction_sets() -> list[str]:
    """Return the names of the instruction sets that can be used here, the best one last."""
    return list(_usable_levels())


def chosen_level() -> int:
    """Return the level to compute with, as the library counts them: the best, or HSPAN_ISA's.

    Raises:
        UsageError: HSPAN_ISA names a set that doesn't exist, isn't compiled in or can't run here.
        BackendUnavailable: there is no library.
    """
    levels = _usable_levels()
    if not levels:
        raise BackendUnavailable(why_missing())
    name = os.environ.get("HSPAN_ISA")
    if not name:
        return max(levels.values())
    if name not in levels:
        raise UsageError(
            f"HSPAN_ISA={name!r} can't be used on this machine: choose from {', '.join(levels)}"
        )
    return levels[name]


def name_of(level: int) -> str:
    """Return the name of a level, as HSPAN_ISA spells it.

    Raises:
        BackendUnavailable: there is no library.
    """
    compiled = library()
    if compiled is None:
        raise BackendUnavailable(why_missing())
    return compiled.hspan_isa_name(level).decode()


@cache
def _usable_levels() -> dict[str, int]:
    compiled = library()
    if compiled is None:
        return {}
    return {
        name_of(level): level
        for level in range(compiled.hspan_isa_count())
        if compiled.hspan_isa_usable(level)
    }


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """Return the library and "", or None and the reason."""
    named = os.environ.get("HSPAN_LIBRARY")
    path = Path(named) if named else Path(__file__).with_name(_FILE)
    if not path.is_file():
        if named:
            return None, f"HSPAN_LIBRARY names {path}, which is no file"
        return None, (
            "there are no compiled kernels in this installation "
            "(made where no C++ compiler was found, or a source tree that was not built)"
        )
    import_module("torch")  # brings its OpenMP: loaded after it, the library shares its threads
    try:
        compiled = ctypes.CDLL(str(path.resolve()))
    except OSError as error:
        return None, f"the compiled kernels can't be loaded ({error})"
    version = _abi_version(compiled)
    if version != ABI_VERSION:
        return None, (
            f"the compiled kernels in {path} belong to another version of hspan "
            f"(interface {version}, not {ABI_VERSION}): install hspan again"
        )
    for name, arguments, result in (
        ("hspan_isa_count", [], ctypes.c_int),
        ("hspan_isa_name", [ctypes.c_int], ctypes.c_char_p),
        ("hspan_isa_usable", [ctypes.c_int], ctypes.c_int),
    ):
        function = getattr(compiled, name)
        function.argtypes = arguments
        function.restype = result
    return compiled, ""


def _abi_version(compiled: ctypes.CDLL) -> int | None:
    try:
        return int(compiled.hspan_abi_version())
    except AttributeError:  # not a library of hspan's
        return None

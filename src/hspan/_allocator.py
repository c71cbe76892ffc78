"""Memory of a layer, a training step or an image, kept for the next one.

Each allocates the same tensors again. glibc returns those of more than 32 MiB, and whatever lies
free at the end of its heap, to the system, which then has to fill every page with zeros: on
processors an eighth of a small network's training step, a third of its time for an image.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h
_MOST = 2**30  # bytes; mallopt takes a C int


def keep_memory() -> bool:
    """Let the process keep freed memory until it ends.

    Returns:
        Whether that could be arranged: with glibc, on Linux.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_MMAP_THRESHOLD: _MOST, _TRIM_THRESHOLD: 2 * _MOST - 1, _TOP_PAD: 2**26}
    # musl has the function, too, and it does nothing: it returns 0.
    return all([mallopt(key, value) == 1 for key, value in settings.items()])

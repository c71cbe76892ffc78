"""One image of a benchmark, cut to what an experiment looks at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hspan.data import ImagePair, find_pairs, load_pair
from hspan.errors import InputError, UsageError
from hspan.reproduce._benchmarks import find_dataset
from hspan.reproduce._job import Job


def find_image(job: Job, name: str, scale: int, kind: str = "BI") -> ImagePair:
    """Look an image up as ``DATASET/NAME``, or by its path.

    Args:
        job: knows where the data sets are.
        name: such as ``Set5/butterfly`` or ``photos/cat.png``; several with ``|`` between them are
            tried in order, for images that go by more than one name.
        scale: ratio of HR to LR.
        kind: "BI" or "BD".

    Raises:
        InputError: none of the names is there.
        UsageError: no folder of benchmarks was given.
    """
    for word in name.split("|"):
        if Path(word).is_file():
            return ImagePair(Path(word).stem, Path(word))
        dataset, _, stem = word.partition("/")
        try:
            folder = find_dataset(job.benchmarks(), dataset, scale, kind).folder
        except InputError:
            continue
        for pair in find_pairs(folder, scale, kind):
            if pair.name.lower() == stem.lower():
                return pair
    raise InputError(f"no image {name.replace('|', ' or ')} in {job.benchmarks()}")


def lr_window(job: Job, name: str, scale: int, window: Sequence[int]) -> np.ndarray:
    """A window of an image's LR version.

    Args:
        job: knows where the data sets are.
        name: as for ``find_image``.
        scale: ratio of HR to LR.
        window: left, top, width and height in LR pixels; empty takes everything.

    Returns:
        [H, W, 3], uint8.

    Raises:
        InputError: no such image, or the window reaches beyond it.
        UsageError: the window isn't four numbers, from 0 and of 1 pixel at least.
    """
    if window and (len(window) != 4 or min(window) < 0 or min(window[2:]) < 1):
        raise UsageError(f"window must be left, top, width and height, got {list(window)}")
    _, lr = load_pair(find_image(job, name, scale), scale)
    if window:
        left, top, width, height = window
        if left + width > lr.shape[1] or top + height > lr.shape[0]:
            raise InputError(f"{name}: the window {list(window)} reaches beyond {lr.shape[:2]}")
        lr = lr[top : top + height, left : left + width]
    return np.ascontiguousarray(lr)


def position(pixel: Sequence[int]) -> tuple[int, int]:
    """Column and row, checked to be two.

    Raises:
        UsageError: there are more or fewer.
    """
    if len(pixel) != 2:
        raise UsageError(f"a pixel is its column and row, got {list(pixel)}")
    return pixel[0], pixel[1]

"""Is this folder fit for training and evaluation? Every file is decoded to find out."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hspan.data._layout import ImagePair, find_layout
from hspan.data._read import read_pair
from hspan.errors import InputError


@dataclass(frozen=True)
class FolderReport:
    """What ``check_folder`` found.

    Attributes:
        layout: in words.
        scale: that the LR images were looked for at.
        kind: of their degradation.
        sizes: width and height of each usable HR image in pixels, by name.
        too_small: names of the images that hold no training patch; they can still be scored.
        unusable: reason for each file that can't be used, by name.
        problems: sentences on what is missing.
    """

    layout: str
    scale: int
    kind: str
    sizes: dict[str, tuple[int, int]]
    too_small: list[str]
    unusable: dict[str, str]
    problems: list[str]

    @property
    def ok(self) -> bool:
        """Whether every file can be used and none is missing."""
        return bool(self.sizes) and not self.unusable and not self.problems


def check_folder(
    folder: str | Path,
    scale: int = 2,
    kind: str = "BI",
    *,
    patch: int = 48,
    report: Callable[[int, int], None] | None = None,
) -> FolderReport:
    """Decode every image of a folder, and compare HR and LR sizes.

    Args:
        folder: images in a layout that ``find_pairs`` knows.
        scale: ratio of HR to LR.
        kind: degradation whose LR images to look for, "BI" or "BD".
        patch: side of an LR patch in training.
        report: called with the number of images done and in all.

    Raises:
        InputError: the folder is missing or holds no images in any layout.
        UsageError: unknown kind.
    """
    layout = find_layout(folder, scale, kind)

    def check(pair: ImagePair) -> tuple[int, int] | str:
        try:
            hr, _ = read_pair(pair, scale)
        except InputError as error:
            return str(error)
        return hr.shape[1], hr.shape[0]

    sizes: dict[str, tuple[int, int]] = {}
    unusable: dict[str, str] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        results = zip(layout.pairs, pool.map(check, layout.pairs), strict=True)
        for done, (pair, result) in enumerate(results, start=1):
            if isinstance(result, str):
                unusable[pair.name] = result
            else:
                sizes[pair.name] = result
            if report:
                report(done, len(layout.pairs))
    return FolderReport(
        layout=layout.description,
        scale=scale,
        kind=kind,
        sizes=sizes,
        too_small=[name for name, size in sizes.items() if min(size) < patch * scale],
        unusable=unusable,
        problems=layout.problems,
    )

"""Which files of a folder are HR images and which are their LR versions.

Three layouts are understood, looked for in this order:

1. ``DIR/HR/NAME.png``, or ``DIR/PREFIX_HR/NAME.png`` as in DIV2K, with LR images, where there are
   any, in ``DIR/[PREFIX_]LR_bicubic/X2/NAMEx2.png`` (``LR_BD/X3/NAMEx3.png`` for BD).
2. ``DIR/NAME_HR.png`` beside ``DIR/NAME_LR.png``.
3. ``DIR/NAME.png``: HR images only.

Half a set of LR images is never filled up by making the rest: the two may differ in how they were
reduced, and the mix would go unnoticed. It is reported instead.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hspan.errors import InputError, UsageError
from hspan.imaging import images_in

LR_FOLDERS = {"BI": "LR_bicubic", "BD": "LR_BD"}
_NAMED = 5  # files named in one message; the rest are counted


@dataclass(frozen=True)
class ImagePair:
    """One HR image and, where the folder has it, its LR version.

    Attributes:
        name: the file's name without suffix and ``_HR``; unique within a folder.
        hr: the HR file.
        lr: the LR file; None means that it is to be made from the HR image.
    """

    name: str
    hr: Path
    lr: Path | None = None


@dataclass(frozen=True)
class Layout:
    """What a folder holds.

    Attributes:
        description: the layout in words, for reports.
        pairs: the images, in natural order of their names (``img2`` before ``img10``).
        problems: sentences on files that don't fit, such as a missing LR image.
        prefix: what stands before ``HR`` and ``LR_bicubic`` in the folders' names, such as
            ``DIV2K_train_``.
    """

    description: str
    pairs: list[ImagePair]
    problems: list[str]
    prefix: str = ""


def find_pairs(folder: str | Path, scale: int, kind: str = "BI") -> list[ImagePair]:
    """List the images of a folder in any of the layouts of this module.

    Args:
        folder: the folder.
        scale: ratio of HR to LR; chooses among the LR folders ``X2``, ``X3``, ``X4``.
        kind: degradation whose LR images are wanted, "BI" or "BD".

    Returns:
        At least one pair, in natural order of the names; either all or none have an LR file.

    Raises:
        InputError: the folder is missing, holds no images, or an LR image is missing.
        UsageError: unknown kind.
    """
    layout = find_layout(folder, scale, kind)
    if layout.problems:
        raise InputError(f"{folder}: {'; '.join(layout.problems)}")
    return layout.pairs


def find_layout(folder: str | Path, scale: int, kind: str = "BI") -> Layout:
    """Like ``find_pairs``, with the layout's name, and with problems listed instead of raised.

    Args:
        folder: the folder.
        scale: ratio of HR to LR.
        kind: "BI" or "BD".

    Raises:
        InputError: the folder is missing or holds no images in any layout.
        UsageError: unknown kind.
    """
    folder = Path(folder)
    if kind not in LR_FOLDERS:
        raise UsageError(f"kind must be {' or '.join(LR_FOLDERS)}, got {kind!r}")
    if not folder.is_dir():
        raise InputError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}")
    if hr_folder := _hr_folder(folder):
        layout = _separate_folders(folder, hr_folder, scale, kind)
    else:
        images = _images(folder)
        stems = Counter(path.stem.rsplit("_", 1)[-1] for path in images if "_" in path.stem)
        layout = _suffix_pairs(images) if stems["HR"] and stems["LR"] else _plain(images)
    if not layout.pairs and not layout.problems:
        raise InputError(_nothing_found(folder))
    return layout


def _hr_folder(folder: Path) -> Path | None:
    for name in ("HR", "DIV2K_train_HR"):  # the training part, where both parts lie side by side
        if (folder / name).is_dir():
            return folder / name
    others = sorted(path for path in folder.glob("*_HR") if path.is_dir())
    if len(others) > 1:
        names = ", ".join(path.name for path in others)
        raise InputError(f"{folder}: several HR folders ({names}); name one of them")
    return others[0] if others else None


def _separate_folders(folder: Path, hr_folder: Path, scale: int, kind: str) -> Layout:
    images = _images(hr_folder)
    if not images:
        raise InputError(_nothing_found(hr_folder))
    prefix = hr_folder.name.removesuffix("HR")
    reduced = folder / f"{prefix}{LR_FOLDERS[kind]}"
    lr_folder = next((p for x in "Xx" if (p := reduced / f"{x}{scale}").is_dir()), None)
    if lr_folder is None:
        return Layout(f"{hr_folder.name}/, LR made from it", _name(images), [], prefix)
    given = {path.stem: path for path in _images(lr_folder)}
    pairs: list[ImagePair] = []
    missing: list[str] = []
    for pair in _name(images):
        lr = given.get(f"{pair.name}x{scale}") or given.get(pair.name)
        if lr is None:
            missing.append(pair.name)
        else:
            pairs.append(ImagePair(pair.name, pair.hr, lr))
    where = f"{reduced.name}/{lr_folder.name}"
    problems = [f"{where} has no NAMEx{scale} for {_some(missing)}"] if missing else []
    return Layout(f"{hr_folder.name}/ with {where}/", pairs, problems, prefix)


def _suffix_pairs(images: list[Path]) -> Layout:
    hr = {p.stem.removesuffix("_HR"): p for p in images if p.stem.endswith("_HR")}
    lr = {p.stem.removesuffix("_LR"): p for p in images if p.stem.endswith("_LR")}
    stray = [p.name for p in images if not p.stem.endswith(("_HR", "_LR"))]
    pairs = [ImagePair(name, path, lr[name]) for name, path in hr.items() if name in lr]
    problems: list[str] = []
    if missing := [f"{name}_LR" for name in hr if name not in lr]:
        problems.append(f"missing {_some(missing)}")
    if missing := [f"{name}_HR" for name in lr if name not in hr]:
        problems.append(f"missing {_some(missing)}")
    if stray:
        problems.append(f"neither NAME_HR nor NAME_LR: {_some(stray)}")
    return Layout("NAME_HR beside NAME_LR", pairs, problems)


def _plain(images: list[Path]) -> Layout:
    return Layout("HR images, LR made from them", _name(images), [])


def _name(images: list[Path]) -> list[ImagePair]:
    stems = Counter(path.stem for path in images)
    return [ImagePair(p.stem if stems[p.stem] == 1 else p.name, p) for p in images]


def _images(folder: Path) -> list[Path]:
    return sorted(images_in(folder), key=lambda path: _natural(path.name))


def _natural(name: str) -> list[tuple[int, str]]:
    parts: Iterable[str] = re.findall(r"\d+|\D+", name)
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _nothing_found(folder: Path) -> str:
    entries = sorted(folder.iterdir())
    folders = [f"{path.name}/" for path in entries if path.is_dir()]
    files = [path.name for path in entries if not path.is_dir()]
    found = _some(folders + files) or "nothing"
    return (
        f"{folder}: no images; found {found}; wanted images, or HR/ with images, "
        "or pairs NAME_HR.png and NAME_LR.png"
    )

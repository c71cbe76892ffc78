"""Writing the LR images of a folder, in the layout that ``find_pairs`` and other programs read."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

from hspan.data._layout import LR_FOLDERS, find_layout
from hspan.errors import InputError, UsageError


def degrade_folder(
    folder: str | Path,
    out: str | Path,
    scale: int,
    kind: str = "BI",
    *,
    report: Callable[[int, int], None] | None = None,
) -> tuple[Path, dict[str, str]]:
    """Write ``OUT/LR_bicubic/X2/NAMEx2.png`` (``OUT/LR_BD/X3/NAMEx3.png``) for every HR image.

    Depth, grey and colour profile stay as they are; transparency is left out. LR images that the
    folder has are neither used nor touched.

    Args:
        folder: images in a layout that ``find_pairs`` knows.
        out: where the LR folder goes; the folder itself completes it in place.
        scale: ratio of HR to LR.
        kind: degradation, "BI" or "BD".
        report: called with the number of images done and in all.

    Returns:
        The folder written to, and the reason for each image that failed, by name.

    Raises:
        InputError: the folder is missing or holds no images, or ``out`` can't be written.
        UsageError: unknown kind, a scale that it doesn't have, or LR images are there already.
    """
    from hspan.imaging import crop_to_multiple, degrade, read_image, write_image

    layout = find_layout(folder, scale, kind)
    if kind == "BD" and scale != 3:
        raise UsageError(f"kind BD exists for scale 3 only, got {scale}")
    target = Path(out) / f"{layout.prefix}{LR_FOLDERS[kind]}" / f"X{scale}"
    try:
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise UsageError(f"{target} has files already; choose another folder with -o")
    except OSError as error:
        raise InputError(f"{target}: can't be written ({error.strerror or error})") from error
    failed: dict[str, str] = {}
    for done, pair in enumerate(layout.pairs, start=1):
        try:
            picture = read_image(pair.hr)
            hr = crop_to_multiple(picture.pixels, scale)
            lr = degrade(hr, scale, cast(Literal["BI", "BD"], kind))
            small = dataclasses.replace(picture, pixels=lr, alpha=None, exif=None, format="PNG")
            write_image(target / f"{pair.name}x{scale}.png", small)
        except InputError as error:
            failed[pair.name] = str(error)
        if report:
            report(done, len(layout.pairs))
    return target, failed

"""Pictures for the screen: 8 bits, no transparency, no larger than anybody looks at."""

from __future__ import annotations

import numpy as np

from hspan.imaging import Picture, imresize, to_uint8

SIDE = 1600  # pixels; larger results are shown smaller, never saved smaller
_CROP = 48  # LR pixels per side of what is shown close up
_CLOSE_UP = 384  # pixels per side that it is shown with
_GAP = 8


def shown(picture: Picture) -> np.ndarray:
    """A picture as the page shows it: H×W×3 uint8, transparent places white."""
    pixels = to_uint8(picture.pixels).astype(np.float32)
    if picture.alpha is not None:
        alpha = to_uint8(picture.alpha)[:, :, None].astype(np.float32) / 255
        pixels = pixels * alpha + 255 * (1 - alpha)
    rounded = np.rint(pixels).astype(np.uint8)
    return np.broadcast_to(rounded, (*rounded.shape[:2], 3))


def before_and_after(lr: np.ndarray, sr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The LR image enlarged by bicubic interpolation, and the SR image, both of one size.

    Args:
        lr: H×W×3 uint8.
        sr: sH×sW×3 uint8.

    Returns:
        Two images of the size of ``sr``, or smaller, at most ``SIDE`` per side.
    """
    size = _fitting(sr.shape[0], sr.shape[1], SIDE)
    return imresize(lr, size=size), sr if size == sr.shape[:2] else imresize(sr, size=size)


def close_up(
    lr: np.ndarray, sr: np.ndarray, truth: np.ndarray | None, at: tuple[int, int]
) -> np.ndarray:
    """The surroundings of an LR pixel side by side: bicubic, SR, and the truth where known.

    Args:
        lr: H×W×3 uint8.
        sr: sH×sW×3 uint8.
        truth: of the size of ``sr``.
        at: x and y of the LR pixel in the middle, as far as the border allows.

    Returns:
        uint8, every pixel of the enlarged images a square block: nothing is smoothed.
    """
    scale = sr.shape[0] // lr.shape[0]
    (top, high), (left, wide) = (
        _span(middle, side) for middle, side in zip(at[::-1], lr.shape[:2], strict=True)
    )
    # Bicubic interpolation looks two pixels around; a few more change nothing.
    above, before = min(top, 4), min(left, 4)
    around = lr[top - above : top + high + 4, left - before : left + wide + 4]
    inner = (
        slice(above * scale, (above + high) * scale),
        slice(before * scale, (before + wide) * scale),
    )
    bicubic = imresize(around, scale=scale)[inner]
    window = (
        slice(top * scale, (top + high) * scale),
        slice(left * scale, (left + wide) * scale),
    )
    images = [bicubic, sr[window]] + ([] if truth is None else [truth[window]])
    times = max(1, _CLOSE_UP // (max(high, wide) * scale))
    blocks = [image.repeat(times, axis=0).repeat(times, axis=1) for image in images]
    gap = np.full((blocks[0].shape[0], _GAP, 3), 255, np.uint8)
    row = [part for block in blocks for part in (block, gap)][:-1]
    return np.concatenate(row, axis=1)


def part_around(
    size: tuple[int, int], at: tuple[int, int], side: int
) -> tuple[slice, slice, tuple[int, int]]:
    """Cut a part of at most ``side`` × ``side`` pixels around one.

    Args:
        size: height and width.
        at: x and y.
        side: pixels.

    Returns:
        Rows, columns, and x and y within the part.
    """
    (top, high), (left, wide) = (
        _span(middle, whole, side) for middle, whole in zip(at[::-1], size, strict=True)
    )
    return slice(top, top + high), slice(left, left + wide), (at[0] - left, at[1] - top)


def _span(middle: int, whole: int, side: int = _CROP) -> tuple[int, int]:
    """First pixel and length of a window around a pixel that stays within the image."""
    length = min(side, whole)
    return min(max(middle - length // 2, 0), whole - length), length


def _fitting(height: int, width: int, side: int) -> tuple[int, int]:
    if max(height, width) <= side:
        return height, width
    factor = side / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))

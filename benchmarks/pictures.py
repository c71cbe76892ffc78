"""Draws what hspan-light does to pictures: for the README, and its failures for the model cards.

    python benchmarks/pictures.py [--out docs/figures]

An image is reduced to half its size as the benchmarks do (BI), and enlarged again; in
failure_cases.png it is spoilt in between, in one way for each row. The figures under the squares
are PSNR of the whole image against the original.
"""

import argparse
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from PIL import Image, ImageFilter

import hspan
from hspan.imaging import crop_to_multiple, degrade, imresize
from hspan.metrics import psnr

ROOT = Path(__file__).parents[1]
BADGE, SIDE = (118, 8), 128  # what of astronaut.png is shown: top left, and HR pixels per side
SQUARE = 96  # of the failures


def compressed(lr: np.ndarray) -> np.ndarray:
    """As a JPEG of quality 30."""
    file = io.BytesIO()
    Image.fromarray(lr).save(file, "JPEG", quality=30)
    return np.asarray(Image.open(file))


def noisy(lr: np.ndarray) -> np.ndarray:
    """With Gaussian noise of 10 levels."""
    noise = np.random.default_rng(0).normal(0, 10, lr.shape)
    return (lr + noise).round().clip(0, 255).astype(np.uint8)


def blurred(lr: np.ndarray) -> np.ndarray:
    """Out of focus."""
    return np.asarray(Image.fromarray(lr).filter(ImageFilter.GaussianBlur(1.5)))


def zone_plate(side: int = 256) -> np.ndarray:
    """Rings that grow finer towards the corner, to a period of two HR pixels."""
    y, x = np.mgrid[:side, :side]
    rings = 0.5 + 0.5 * np.cos(np.pi * (x**2 + y**2) / (2 * side))
    return np.repeat((255 * rings).round().astype(np.uint8)[..., None], 3, axis=2)


def draw(
    line: Sequence[Axes],
    hr: np.ndarray,
    lr: np.ndarray,
    name: str,
    corner: tuple[int, int],
    side: int,
) -> None:
    """One row: LR, bicubic, hspan-light, original."""
    bicubic, ours = imresize(lr, 2), hspan.Upscaler("hspan-light", scale=2)(lr)
    shown = [
        (lr.repeat(2, 0).repeat(2, 1), name),
        (bicubic, f"bicubic {psnr(bicubic, hr, 2):.2f} dB"),
        (ours, f"hspan-light {psnr(ours, hr, 2):.2f} dB"),
        (hr, "original"),
    ]
    top, left = corner
    for (image, caption), place in zip(shown, line, strict=True):
        place.imshow(image[top : top + side, left : left + side], interpolation="nearest")
        place.set_xlabel(caption, fontsize=9)
        place.set(xticks=[], yticks=[])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/figures")
    args = parser.parse_args()
    with Image.open(ROOT / "examples/astronaut.png") as image:
        photograph = crop_to_multiple(np.asarray(image.convert("RGB")), 2)

    figure, axes = plt.subplots(1, 4, figsize=(10, 2.75), layout="constrained")
    draw(axes, photograph, degrade(photograph, 2), "LR", BADGE, SIDE)
    figure.savefig(args.out / "astronaut.png", dpi=160)

    cases: list[tuple[str, np.ndarray, Callable[[np.ndarray], np.ndarray], tuple[int, int]]] = [
        ("JPEG, quality 30", photograph, compressed, BADGE),
        ("noise, σ = 10", photograph, noisy, BADGE),
        ("out of focus", photograph, blurred, BADGE),
        ("finer than LR holds", zone_plate(), lambda lr: lr, (112, 112)),
    ]
    figure, axes = plt.subplots(len(cases), 4, figsize=(8, 8.6), layout="constrained")
    for (title, hr, spoil, corner), line in zip(cases, axes, strict=True):
        draw(line, hr, spoil(degrade(hr, 2)), f"LR: {title}", corner, SQUARE)
    figure.savefig(args.out / "failure_cases.png", dpi=110)


if __name__ == "__main__":
    main()

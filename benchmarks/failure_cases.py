"""Draws docs/figures/failure_cases.png: inputs that hspan-light enlarges badly, and why.

    python benchmarks/failure_cases.py [--out FILE]

Every row reduces an image to half its size as the benchmarks do (BI), spoils it in one way, and
enlarges it again. The figures under the squares are PSNR of the whole image against the original.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageFilter

import hspan
from hspan.imaging import crop_to_multiple, degrade, imresize
from hspan.metrics import psnr

ROOT = Path(__file__).parents[1]
SQUARE = 96  # HR pixels per side of what is shown


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/figures/failure_cases.png")
    args = parser.parse_args()
    with Image.open(ROOT / "examples/astronaut.png") as image:
        photograph = crop_to_multiple(np.asarray(image.convert("RGB")), 2)
    lettering = (118, 8)
    cases: list[tuple[str, np.ndarray, Callable[[np.ndarray], np.ndarray], tuple[int, int]]] = [
        ("JPEG, quality 30", photograph, compressed, lettering),
        ("noise, σ = 10", photograph, noisy, lettering),
        ("out of focus", photograph, blurred, lettering),
        ("finer than LR holds", zone_plate(), lambda lr: lr, (112, 112)),
    ]
    upscaler = hspan.Upscaler("hspan-light", scale=2)
    figure, axes = plt.subplots(len(cases), 4, figsize=(8, 8.6), layout="constrained")
    for (title, hr, spoil, (top, left)), line in zip(cases, axes, strict=True):
        lr = spoil(degrade(hr, 2))
        bicubic, ours = imresize(lr, 2), upscaler(lr)
        shown = [
            (lr.repeat(2, 0).repeat(2, 1), f"LR: {title}"),
            (bicubic, f"bicubic {psnr(bicubic, hr, 2):.2f} dB"),
            (ours, f"hspan-light {psnr(ours, hr, 2):.2f} dB"),
            (hr, "original"),
        ]
        for (image, caption), place in zip(shown, line, strict=True):
            square = image[top : top + SQUARE, left : left + SQUARE]
            place.imshow(square, interpolation="nearest")
            place.set_xlabel(caption, fontsize=9)
            place.set(xticks=[], yticks=[])
    figure.savefig(args.out, dpi=110)
    print(args.out)


if __name__ == "__main__":
    main()

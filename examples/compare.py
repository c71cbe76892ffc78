"""Makes the README's picture: a reduced photograph, enlarged by bicubic and by hspan-light.

    python examples/compare.py [IMAGE] [--box LEFT TOP SIZE] [--out FILE]

The image is reduced to half its size as in the benchmarks (BI) and enlarged again; what is shown is
a square of it, magnified by whole pixels, with the PSNR of the whole image under each.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import hspan
from hspan.imaging import crop_to_multiple, degrade, imresize
from hspan.metrics import psnr

HERE = Path(__file__).parent
MAGNIFY = 3
MARGIN = 12


def panel(image: np.ndarray, box: tuple[int, int, int], caption: str) -> Image.Image:
    left, top, size = box
    square = Image.fromarray(image[top : top + size, left : left + size])
    side = size * MAGNIFY
    result = Image.new("RGB", (side, side + 34), "white")
    result.paste(square.resize((side, side), Image.Resampling.NEAREST))
    font = ImageFont.load_default(size=20)
    ImageDraw.Draw(result).text((side / 2, side + 6), caption, "black", font, anchor="ma")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", nargs="?", type=Path, default=HERE / "astronaut.png")
    parser.add_argument("--box", nargs=3, type=int, default=(8, 118, 128))
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs/figures/astronaut.png")
    args = parser.parse_args()
    hr = crop_to_multiple(np.asarray(Image.open(args.image).convert("RGB")), 2)
    lr = degrade(hr, 2)
    bicubic, ours = imresize(lr, 2), hspan.Upscaler("hspan-light", scale=2)(lr)
    panels = [
        panel(lr.repeat(2, 0).repeat(2, 1), args.box, "LR"),
        panel(bicubic, args.box, f"bicubic  {psnr(bicubic, hr, 2):.2f} dB"),
        panel(ours, args.box, f"hspan-light  {psnr(ours, hr, 2):.2f} dB"),
        panel(hr, args.box, "original"),
    ]
    width, height = panels[0].size
    sheet = Image.new("RGB", (4 * width + 5 * MARGIN, height + 2 * MARGIN), "white")
    for i, one in enumerate(panels):
        sheet.paste(one, (MARGIN + i * (width + MARGIN), MARGIN))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.out, optimize=True)
    print(args.out)


if __name__ == "__main__":
    main()

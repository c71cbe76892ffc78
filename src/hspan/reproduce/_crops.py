"""Figs. 5, 11 and 12: a marked box, and the box as every method sees it, with PSNR and SSIM."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from hspan.data import load_pair
from hspan.errors import InputError, UsageError
from hspan.imaging import Picture as Image
from hspan.imaging import imresize
from hspan.inference import Upscaler
from hspan.metrics import psnr, ssim
from hspan.reproduce._blocks import Block, Cell, Picture, Table, Text, cells, number
from hspan.reproduce._contestants import BICUBIC, Contestant, find_contestants
from hspan.reproduce._figures import RED, WIDTH, drawing, save_picture
from hspan.reproduce._images import find_image
from hspan.reproduce._job import Job
from hspan.reproduce._report import Report

_COLUMNS = 4  # of crops beside the image, at most
_TEXT = 0.36  # inches below a crop, for two lines
_FOOT = 0.17  # inches below the image, for one
_FILL = 0.97  # of its place that a picture fills


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Crops of some images.

    Attributes:
        scale: upscaling factor.
        shipped: compare the package's own weights too.
        images: for each, ``name`` (``DATASET/NAME``, other names after ``|``, or a file) and
            ``box``: left, top, width and height in HR pixels.
    """

    scale: int
    shipped: bool
    images: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Crop:
    """One method on one box.

    Attributes:
        method: the contestant's title, or "HR".
        pixels: [H, W, 3], uint8.
        psnr: of the box, in dB; None for HR.
        ssim: of the box.
        image_psnr: of the whole image, by the benchmarks' protocol.
        image_ssim: the same for SSIM.
    """

    method: str
    pixels: np.ndarray
    psnr: float | None = None
    ssim: float | None = None
    image_psnr: float | None = None
    image_ssim: float | None = None


def compare_crops(job: Job, title: str) -> Report:
    """Upscale every image with everything at hand, and cut out the boxes."""
    s = job.settings(Settings)
    networks, refused = find_contestants(job, s.scale, shipped=s.shipped)
    contestants = [BICUBIC, *networks]
    blocks: list[Block] = [
        Text(
            f"×{s.scale}, bicubic reduction. Under each crop: PSNR (dB) and SSIM on Y of the crop "
            "itself; the table has those of the whole images too. Every checkpoint given with "
            "`--weights` joins in; boxes and images are lines of the settings."
        )
    ]
    blocks += [Text(f"`{file}` wasn't used: {reason}") for file, reason in refused.items()]
    rows: list[tuple[Cell, ...]] = []
    results: dict[str, list[dict[str, object]]] = {}
    data: dict[str, dict[str, object]] = {}
    missing: list[str] = []
    for label, entry in s.images.items():
        name, box = _image_and_box(label, entry)
        try:
            pair = find_image(job, name, s.scale)
        except InputError as error:
            missing.append(str(error))
            continue
        job.say(f"{job.name}: {label}")
        hr, lr = load_pair(pair, s.scale)
        sha256 = hashlib.sha256(pair.hr.read_bytes()).hexdigest()
        data[label] = {"images": 1, "sha256": sha256}
        crops = _crops(job, hr, lr, contestants, s.scale, box)
        blocks.append(_draw(job, label, hr, crops, box, s.scale))
        for crop in crops[1:]:
            rows.append(
                cells(
                    label,
                    crop.method,
                    number(crop.psnr, 2),
                    number(crop.ssim, 4),
                    number(crop.image_psnr, 2),
                    number(crop.image_ssim, 4),
                )
            )
        results[label] = [
            {k: v for k, v in asdict(crop).items() if k != "pixels"} for crop in crops[1:]
        ]
    if not results:
        raise UsageError(f"{job.name}: none of its images is there: {'; '.join(missing)}")
    header = ("image", "method", "crop PSNR", "crop SSIM", "image PSNR", "image SSIM")
    blocks.append(
        Table(job.name, f"Scores of the crops and images, ×{s.scale}", header, tuple(rows))
    )
    blocks += [Text(f"Left out: {reason}.") for reason in missing]
    return Report(title=title, settings=s, blocks=tuple(blocks), results=results, data=data)


def _image_and_box(label: str, entry: dict[str, Any]) -> tuple[str, tuple[int, ...]]:
    name, box = entry.get("name"), entry.get("box")
    if not isinstance(name, str) or not isinstance(box, list) or len(cast("list[int]", box)) != 4:
        raise UsageError(f"images.{label} wants a name and a box of left, top, width and height")
    return name, tuple(cast("list[int]", box))


def _crops(
    job: Job,
    hr: np.ndarray,
    lr: np.ndarray,
    contestants: Sequence[Contestant],
    scale: int,
    box: tuple[int, ...],
) -> list[Crop]:
    left, top, width, height = box
    if left < 0 or top < 0 or left + width > hr.shape[1] or top + height > hr.shape[0]:
        raise UsageError(f"the box {list(box)} reaches beyond {hr.shape[1]}×{hr.shape[0]} pixels")
    part = slice(top, top + height), slice(left, left + width)
    crops = [Crop("HR", hr[part])]
    for each in contestants:
        sr = imresize(lr, scale) if each.network is None else _upscale(job, each, lr, scale)
        crops.append(
            Crop(
                each.title,
                sr[part],
                psnr(sr[part], hr[part], 0),
                ssim(sr[part], hr[part], 0),
                psnr(sr, hr, scale),
                ssim(sr, hr, scale),
            )
        )
    return crops


def _upscale(job: Job, contestant: Contestant, lr: np.ndarray, scale: int) -> np.ndarray:
    assert contestant.network is not None
    upscaler = Upscaler(contestant.network, scale, device=job.device, precision="fp32")
    return upscaler.upscale_picture(Image(pixels=lr))[0].pixels


def _draw(
    job: Job,
    label: str,
    hr: np.ndarray,
    crops: Sequence[Crop],
    box: tuple[int, ...],
    scale: int,
) -> Picture:
    """The image with its box at the left, crops in rows at the right."""
    from matplotlib.patches import Rectangle

    left, top, width, height = box
    columns = len(crops) if len(crops) <= 3 else -(-len(crops) // 2)
    columns = min(_COLUMNS, columns)
    rows = -(-len(crops) // columns)
    share = hr.shape[1] / hr.shape[0]
    shape = height / width
    # The image is as tall as all rows of crops with their text, and together they fill the page.
    crop_width = (WIDTH - share * rows * _TEXT) / (share * rows * shape + columns)
    cell = crop_width * shape + _TEXT
    tall = rows * cell
    start = share * rows * cell
    with drawing(tall) as figure:
        figure.set_layout_engine("none")
        whole = figure.add_axes((0, _FOOT / tall, _FILL * start / WIDTH, 1 - _FOOT / tall))
        whole.set_anchor("NW")
        whole.imshow(hr)
        line = Rectangle((left, top), width, height, fill=False, edgecolor=RED, linewidth=1.4)
        whole.add_patch(line)
        whole.set_axis_off()
        middle: Any = {"ha": "center", "va": "top", "fontsize": 7}
        whole.text(0.5, -0.02, f"{label} (×{scale})", transform=whole.transAxes, **middle)
        for i, crop in enumerate(crops):
            row, column = divmod(i, columns)
            size = _FILL * crop_width, _FILL * crop_width * shape
            place = start + column * crop_width, tall - row * cell - size[1]
            axes = figure.add_axes(
                (place[0] / WIDTH, place[1] / tall, size[0] / WIDTH, size[1] / tall)
            )
            axes.imshow(crop.pixels)
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set(visible=True, color=RED if crop.method == "HR" else "black")
            scores = "PSNR / SSIM"
            if crop.psnr is not None:
                scores = f"{crop.psnr:.2f} / {crop.ssim:.4f}"
            axes.text(0.5, -0.04, f"{crop.method}\n{scores}", transform=axes.transAxes, **middle)
        return save_picture(
            figure, job.folder, f"{job.name}_{label}", f"{label} ×{scale}: the marked box, enlarged"
        )

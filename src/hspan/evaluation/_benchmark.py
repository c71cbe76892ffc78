"""Runs a model over folders of images and scores it as the benchmarks do."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from hspan._version import __version__
from hspan.data import ImagePair, find_pairs
from hspan.errors import HspanError, InputError, UsageError
from hspan.evaluation._contestants import Contestant, make_contestant
from hspan.evaluation._published import reference_rows
from hspan.evaluation._report import DatasetScore, Evaluation, Failure, ImageScore, Protocol
from hspan.imaging import (
    Picture,
    crop_to_multiple,
    degrade,
    read_image,
    to_uint8,
    write_image,
)
from hspan.metrics import psnr, ssim

Kind = Literal["BI", "BD"]
Grey = Literal["replicate", "raw"]
Report = Callable[[str, ImageScore | Failure, int], None]

_RESIZE = {
    "BI": "LR by bicubic reduction as MATLAB's imresize, 8-bit",
    "BD": "LR by a 7×7 Gaussian blur (σ 1.6) and every third pixel, 8-bit",
}
_GREY = {
    "replicate": "one-channel images replicated to RGB before upscaling and scoring",
    "raw": "one-channel images upscaled and scored on their own values",
}


def evaluate(
    model: str | PathLike[str] | nn.Module,
    folders: Sequence[str | PathLike[str]],
    *,
    scale: int,
    kind: Kind = "BI",
    grey: Grey = "replicate",
    ensemble: bool = False,
    tile: int | Literal["auto"] = "auto",
    device: str = "auto",
    precision: str = "fp32",
    save_images: str | PathLike[str] | None = None,
    on_image: Report | None = None,
) -> Evaluation:
    """Score a model: PSNR and SSIM on Y of 8-bit images, ``scale`` border pixels left out.

    LR images found beside the HR images are used; otherwise they are made by ``degrade``. An image
    that can't be read or scored is recorded as a failure and the rest go on.

    Args:
        model: "bicubic", a shipped weight's name, a checkpoint's path, or a network.
        folders: of images, in any layout of ``hspan.data.find_pairs``; a data set is named after
            its folder, or its parent where the folder is called ``HR``.
        scale: of the model.
        kind: how LR images come about, "BI" or "BD" (only scale 3).
        grey: how one-channel images are scored: "replicate" to RGB, as the programs that
            published scores do, or "raw", on their own values.
        ensemble: average over the 8 flips and rotations.
        tile: as for ``Upscaler``; 0 is the whole image at once.
        device: as for ``Upscaler``.
        precision: as for ``Upscaler``; published scores are computed in "fp32".
        save_images: folder for the upscaled images, as ``DATASET/NAME_x2.png``.
        on_image: called after every image with the data set's name, the outcome, and the number of
            images in all folders.

    Raises:
        UsageError: unknown model or option, or a model for another scale.
        InputError: a folder is missing or holds no images.
        WeightsError: the model's weights can't be used.
    """
    if kind == "BD" and scale != 3:
        raise UsageError(f"BD exists at scale 3 only, got {scale}")
    if scale not in (2, 3, 4):
        raise UsageError(f"scale must be 2, 3 or 4, got {scale}")
    if kind not in _RESIZE or grey not in _GREY:
        raise UsageError(f"kind is BI or BD and grey replicate or raw, got {kind} and {grey}")
    # Folders first: a misspelt one shouldn't cost a model's loading, nor an hour of other folders.
    datasets = [(path, find_pairs(path, scale, kind)) for path in map(Path, folders)]
    if not datasets:
        raise UsageError("no folder of images to evaluate on")
    contestant = make_contestant(
        model,
        scale,
        kind,
        device=device,
        precision=precision,
        tile=tile,
        ensemble=ensemble,
    )
    target = None if save_images is None else Path(save_images)
    total = sum(len(pairs) for _, pairs in datasets)

    def report(name: str, outcome: ImageScore | Failure) -> None:
        if on_image is not None:
            on_image(name, outcome, total)

    scores = [
        _score_dataset(contestant, folder, pairs, scale, kind, grey, target, report)
        for folder, pairs in datasets
    ]
    return Evaluation(
        model=contestant.name,
        protocol=_protocol(contestant, scale, kind, grey),
        datasets=tuple(scores),
        references=tuple(
            reference_rows(contestant.name, scale, kind, ensemble=contestant.ensemble)
        ),
    )


def _protocol(contestant: Contestant, scale: int, kind: Kind, grey: Grey) -> Protocol:
    return Protocol(
        scale=scale,
        kind=kind,
        resize=_RESIZE[kind],
        colour="Y of ITU-R BT.601 studio swing, unrounded",
        rounding="SR rounded and clipped to 8 bits before scoring",
        border=f"{scale} pixels left out at every side; HR cropped to a multiple of {scale}",
        grey=_GREY[grey],
        mean="of the images' own PSNR and SSIM (11×11 Gaussian window, σ 1.5)",
        tile=contestant.tile(),
        ensemble="8 flips and rotations" if contestant.ensemble else "none",
        precision=contestant.precision(),
        device=contestant.device,
        weights=contestant.weights,
        versions=f"hspan {__version__}, torch {torch.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}",
    )


def _score_dataset(
    contestant: Contestant,
    folder: Path,
    pairs: list[ImagePair],
    scale: int,
    kind: Kind,
    grey: Grey,
    target: Path | None,
    report: Callable[[str, ImageScore | Failure], None],
) -> DatasetScore:
    absolute = folder.resolve()
    name = absolute.parent.name if absolute.name == "HR" else absolute.name
    images: list[ImageScore] = []
    failures: list[Failure] = []
    for pair in pairs:
        try:
            hr, lr = _read(pair, scale, kind, grey)
            start = time.perf_counter()
            sr = contestant.upscale(lr)
            seconds = time.perf_counter() - start
            if target is not None:
                _save(target / name / f"{pair.name}_x{scale}.png", sr)
            outcome = _score(pair.name, sr, hr, scale, grey, seconds)
            images.append(outcome)
        # RuntimeError: the device has run out of memory, or a network can't take this size.
        except (HspanError, OSError, MemoryError, RuntimeError) as error:
            outcome = Failure(name=pair.name, reason=str(error) or type(error).__name__)
            failures.append(outcome)
        report(name, outcome)
    return DatasetScore(
        name=name,
        folder=folder,
        lr="from files" if pairs[0].lr else "made from HR",
        images=tuple(images),
        failures=tuple(failures),
    )


def _score(
    name: str, sr: np.ndarray, hr: np.ndarray, scale: int, grey: Grey, seconds: float
) -> ImageScore:
    values = psnr(sr, hr, scale, grey=grey), ssim(sr, hr, scale, grey=grey)
    if any(math.isnan(value) for value in values):
        raise InputError("the score isn't a number: the upscaled image holds NaN")
    return ImageScore(name=name, psnr=values[0], ssim=values[1], seconds=seconds)


def _read(pair: ImagePair, scale: int, kind: Kind, grey: Grey) -> tuple[np.ndarray, np.ndarray]:
    """HR cropped to what the LR image covers, and LR; uint8, [H, W, 1] or [H, W, 3] both."""
    hr = crop_to_multiple(_pixels(pair.hr), scale)
    lr = degrade(hr, scale, kind) if pair.lr is None else _pixels(pair.lr)
    if (lr.shape[0] * scale, lr.shape[1] * scale) != hr.shape[:2]:
        raise InputError(
            f"{pair.lr} has {lr.shape[1]}×{lr.shape[0]} pixels; ×{scale} of {pair.hr} needs "
            f"{hr.shape[1] // scale}×{hr.shape[0] // scale}"
        )
    if grey == "raw" and hr.shape[2] == lr.shape[2] == 1:
        return hr, lr
    return _rgb(hr), _rgb(lr)


def _pixels(path: Path) -> np.ndarray:
    """[H, W, 1 or 3], uint8; transparency left out."""
    return to_uint8(read_image(path).pixels)


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _save(path: Path, sr: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Picture(pixels=sr))

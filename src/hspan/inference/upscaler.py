"""Upscaling images: the network behind one call that takes any kind of image and size."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import nn

from hspan.errors import InputError, UsageError
from hspan.hardware import (
    Precision,
    available_memory,
    available_ram,
    choose_device,
    choose_precision,
    held_memory,
)
from hspan.imaging import Picture, read_image
from hspan.inference._assembly import Planes, Progress, upscale_planes
from hspan.inference._checkpoint import Checkpoint
from hspan.inference._kinds import open_image
from hspan.inference._meter import Cost
from hspan.inference._network import evaluating, out_of_memory, scale_of
from hspan.inference._pace import Pace, measure_pace
from hspan.inference._reach import CUSTOMARY, reach
from hspan.inference._report import Report, combined
from hspan.inference._runner import Runner
from hspan.inference._speed import speed_of
from hspan.inference.planning import LADDER, Plan, network_cost, plan, size_text
from hspan.inference.tiling import Grid
from hspan.weights import load_model

Image = TypeVar("Image")

IN_MEMORY = 0.25  # of the free memory that a result may take before it is kept in a file
FIRST_USE = (
    60 << 20
)  # bytes that the first image loads: the code of the operators and of the codecs


class Upscaler:
    """A network that upscales whatever it is given: ``Upscaler()("photo.jpg")``.

    Args:
        model: a shipped weight's name, the path of a checkpoint, or a network that maps
            [B, 3, H, W] RGB in [0, 1] to [B, 3, sH, sW]; a network is moved to the device (and to
            channels-last memory) but its training mode is left as it was.
        scale: 2, 3 or 4. None takes what the network has; of a name with several, 2.
        device: "auto" (CUDA, then Apple's GPU, then the processor; for a network, where it is) or
            what torch calls it.
        precision: "fp32", "bf16", "fp16", or "auto": bf16 for 8-bit images where the device
            multiplies it natively, otherwise fp32. Attention thresholds are computed in fp32
            always, and windows whose result isn't finite are computed again in fp32.
        tile: LR pixels of an image, per axis, that go through the network at once, context not
            counted; 0 is the whole image. "auto" takes the whole image where the estimates of
            memory and time allow it, if not the largest tile for which they do (``plan``).
        overlap: LR pixels of context around each tile. A network that looks no further gives the
            same image in tiles as in one piece; attention sees one tile and its context. "auto"
            measures how much this network needs for its seams to be invisible.
        ensemble: return the mean over the 8 flips and rotations, at 8 times the work.
        max_memory: bytes of main memory that the whole process may take; tiles are chosen so that
            it does. None is what is free.
        max_seconds: how long a file may take (``forecast_file``); None is as long as it takes.

    Raises:
        UsageError: no such model, scale, device or precision, or they don't fit together.
        InputError: the checkpoint can't be read.
        WeightsError: the checkpoint is damaged or foreign.
    """

    def __init__(
        self,
        model: str | PathLike[str] | nn.Module = "hspan-light",
        scale: int | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        tile: int | str = "auto",
        overlap: int | str = "auto",
        ensemble: bool = False,
        max_memory: int | None = None,
        max_seconds: float | None = None,
    ) -> None:
        if scale not in (None, 2, 3, 4):
            raise UsageError(f"scale must be 2, 3 or 4, got {scale}")
        if tile != "auto" and not isinstance(tile, int):
            raise UsageError(f"tile must be auto, 0 or a number of pixels, got {tile!r}")
        if overlap != "auto" and not isinstance(overlap, int):
            raise UsageError(f"overlap must be auto or a number of pixels, got {overlap!r}")
        if max_memory is not None and max_memory <= 0:
            raise UsageError(f"max_memory is a number of bytes above 0, got {max_memory}")
        if max_seconds is not None and not max_seconds > 0:
            raise UsageError(f"max_seconds is a number above 0, got {max_seconds}")
        context = CUSTOMARY if overlap == "auto" else int(overlap)
        Grid(1, 1, 0 if tile == "auto" else int(tile), context)  # refuses negative numbers
        if isinstance(model, nn.Module):
            weight = next(model.parameters(), None)
            here = "cpu" if weight is None else str(weight.device)
            self.device = choose_device(here if device == "auto" else device)
            self.name = type(model).__name__
            self.model = model.to(self.device)
        else:
            self.device = choose_device(device)
            self.name = str(model)
            self.model = load_model(model, scale=scale, device=str(self.device))
        self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (untyped overload)
        self.scale = scale_of(self.model, self.device)
        if scale not in (None, self.scale):
            raise UsageError(f"{self.name} upscales by {self.scale}, not by {scale}")
        self.precision = precision
        self._narrow: Precision = choose_precision(precision, self.device)
        self.tile = tile
        self.overlap = overlap
        self.ensemble = ensemble
        self.max_memory = max_memory
        self.max_seconds = max_seconds
        self._used = False
        self._paces: dict[Precision, Pace] = {}
        self._reach: int | None = None
        self._costs: dict[Precision, Cost] = {}

    @overload
    def __call__(
        self, image: str | PathLike[str], *, progress: Progress | None = None
    ) -> Picture: ...
    @overload
    def __call__(self, image: Image, *, progress: Progress | None = None) -> Image: ...
    def __call__(self, image: Any, *, progress: Progress | None = None) -> Any:
        """Upscale one image, or a batch of tensors.

        Args:
            image: a path (the result is a ``Picture``), Pillow image, array, tensor or
                ``Picture``. Arrays are H×W or H×W×C with C of 1 (grey), 2 (grey, alpha), 3 (RGB)
                or 4 (RGB, alpha), uint8, uint16 or floating, nominally in [0, 1]; tensors are
                [C, H, W] or [B, C, H, W], floating or uint8. Pillow's palette, CMYK and other
                modes come back as RGB or RGBA.
            progress: called with the number of finished tiles and of all tiles, image by image.

        Returns:
            The same kind, dtype and channels, ``scale`` times as wide and high. Integers are
            rounded half up and clipped; floating values are not clipped, except beside alpha.
            Colours are multiplied by alpha before the network and divided by it after, so what is
            wholly transparent comes back black; opaque alpha changes nothing.

        Raises:
            InputError: the image can't be read or isn't an image, or holds NaN; or there is not
                enough memory for the tile that was asked for.
        """
        source = read_image(image) if isinstance(image, (str, PathLike)) else image
        opened, close = open_image(source)
        results: list[Planes] = []
        for planes in opened:
            result, report = self.upscale(planes, progress=progress)
            results.append(result)
            if report.repeated_in_fp32:
                warnings.warn(
                    f"{report.repeated_in_fp32} of {report.tiles} tiles weren't finite in "
                    f"{report.precision} and were computed again in fp32",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return close(results)

    def upscale(
        self,
        source: Planes,
        *,
        folder: Path | None = None,
        result: Planes | None = None,
        checkpoint: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> tuple[Planes, Report]:
        """Upscale bare planes and report how; what every other way of calling comes down to.

        Args:
            source: pixels and alpha.
            folder: where a result too large for memory is kept while it is needed, in a file
                without a name; None is the system's folder for temporary files.
            result: where the SR image goes, instead of a new array.
            checkpoint: what an interrupted run has finished, and where to note what is.
            progress: as above.
        """
        begin = time.perf_counter()
        height, width = source.size
        precision = self.precision_for(source.pixels.dtype)
        beside = self.first_use_bytes() + (0 if result else self.scale**2 * _bytes(source))
        self._used = True
        chosen = self.plan(height, width, precision, planes=source.channels, beside=beside)
        tile, because = chosen.tile, chosen.because
        if checkpoint:
            tile = checkpoint.begin(tile)
        with evaluating(self.model):
            while True:
                grid = Grid(height, width, tile, self._context(tile))
                runner = Runner(self.model, self.scale, self.device, precision, self.ensemble)
                resumed = checkpoint.rows * len(grid.columns.spans) if checkpoint else 0
                try:
                    result = upscale_planes(
                        runner,
                        source,
                        self.scale,
                        grid,
                        in_memory=int(available_ram() * IN_MEMORY),
                        folder=folder,
                        result=result,
                        checkpoint=checkpoint,
                        progress=progress,
                    )
                    break
                except (RuntimeError, MemoryError) as error:
                    if not out_of_memory(error):
                        raise
                    tile = self._smaller(grid, error)
                    because = "because larger ones did not fit into memory"
                    if checkpoint:
                        checkpoint.restart(tile)
        report = Report(
            lr_size=(width, height),
            sr_size=(width * self.scale, height * self.scale),
            scale=self.scale,
            model=self.name,
            precision=precision,
            tile=tile if len(grid) > 1 else 0,
            tiles=len(grid),
            because=because,
            repeated_in_fp32=runner.repeated,
            seconds=time.perf_counter() - begin,
            resumed=resumed,
        )
        return result, report

    def upscale_picture(
        self, picture: Picture, *, folder: Path | None = None, progress: Progress | None = None
    ) -> tuple[Picture, Report]:
        """Upscale a picture with all that it carries, and report how; arguments as above.

        Its resolution grows with its size, so that a print stays as large as it was.
        """
        if picture.pages > 1:
            shape = (picture.height * self.scale, picture.width * self.scale)
            pixels = np.empty((*shape, picture.pixels.shape[2]), picture.dtype)
            alpha = None if picture.alpha is None else np.empty(shape, picture.dtype)
            grown = picture.enlarged(pixels, alpha)
            return grown, upscale_pages(self, picture, grown, progress=progress)
        planes = Planes(picture.pixels, picture.alpha)
        result, report = self.upscale(planes, folder=folder, progress=progress)
        return picture.enlarged(result.pixels, result.alpha), report

    def plan(
        self,
        height: int,
        width: int,
        precision: Precision | None = None,
        *,
        planes: int = 3,
        beside: int = 0,
    ) -> Plan:
        """Choose and predict the tiles of an LR image of that size, with the memory free now.

        Args:
            height: of the LR image, in pixels.
            width: likewise.
            precision: in which the network will run; None is that for 8-bit images.
            planes: channels, alpha included.
            beside: bytes that will be needed at the same time, on top of what the process holds.

        Raises:
            InputError: ``max_memory`` is too little for any tile.
        """
        precision = precision or self._narrow
        if precision not in self._costs:
            with evaluating(self.model):
                self._costs[precision] = network_cost(self.model, precision)
        budget = None
        if self.max_memory is not None and self.device.type == "cpu":
            budget = max(0, self.max_memory - held_memory() - beside)

        def choose(overlap: int) -> Plan:
            return plan(
                self._costs[precision],
                height,
                width,
                precision,
                available_memory(self.device),
                scale=self.scale,
                tile=self.tile,
                overlap=overlap,
                planes=planes,
                passes=8 if self.ensemble else 1,
                budget=budget,
            )

        chosen = choose(CUSTOMARY if self.overlap == "auto" else int(self.overlap))
        if chosen.tiles > 1 and self._context(chosen.tile) != CUSTOMARY:
            chosen = choose(self._context(chosen.tile))
        if budget is not None and chosen.predicted_bytes > budget:
            allowed = self.max_memory or 0
            needed = held_memory() + beside + chosen.predicted_bytes
            raise InputError(
                f"needs about {size_text(needed)} of memory {chosen.summary}, more than the "
                f"{size_text(allowed)} allowed: allow more, or take a smaller network"
            )
        return chosen

    def _context(self, tile: int) -> int:
        """LR pixels around a tile; measured when it matters for the first time."""
        if self.overlap != "auto":
            return int(self.overlap)
        if not tile:
            return CUSTOMARY
        if self._reach is None:
            with evaluating(self.model):
                self._reach = reach(self.model, self.scale, self.device)
        return self._reach

    def first_use_bytes(self) -> int:
        """What the first image will load once and for all: code, tables of the libraries."""
        return 0 if self._used else FIRST_USE

    def pace(self, precision: Precision) -> Pace:
        """How fast this machine is now, timed on a small image."""
        if precision not in self._paces:
            self.plan(1, 1, precision)  # settles the costs
            cost, speed = self._costs[precision], speed_of(self.device.type, precision)
            with evaluating(self.model):
                runner = Runner(self.model, self.scale, self.device, precision, False)
                self._paces[precision] = measure_pace(runner, cost, speed)
        return self._paces[precision]

    def precision_for(self, dtype: np.dtype) -> Precision:
        """In which the network runs on images of that dtype."""
        # bf16 results have 8 significant bits: enough beside 8-bit rounding, not beside 16-bit.
        return self._narrow if self.precision != "auto" or dtype == np.uint8 else "fp32"

    def _smaller(self, grid: Grid, error: Exception) -> int:
        """The next tile to try after one that didn't fit."""
        tile = next((size for size in LADDER if size < max(grid.largest) // 2), 0)
        if self.tile != "auto" or not tile:
            h, w = grid.largest
            raise InputError(
                f"not enough memory for tiles of {w}×{h} LR pixels: choose a smaller tile"
            ) from error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return tile


def upscale_pages(
    upscaler: Upscaler,
    picture: Picture,
    result: Picture,
    *,
    checkpoints: Sequence[Checkpoint] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Upscale the pages of a picture one by one into the arrays of another; one report for all."""
    reports: list[Report] = []
    for index in range(picture.pages):

        def advance(done: int, tiles: int, index: int = index) -> None:
            if progress is not None:
                progress(index * tiles + done, picture.pages * tiles)

        _, report = upscaler.upscale(
            Planes(*picture.page(index)),
            result=Planes(*result.page(index)),
            checkpoint=checkpoints[index] if checkpoints else None,
            progress=advance,
        )
        reports.append(report)
    return combined(reports)


def _bytes(planes: Planes) -> int:
    return planes.pixels.nbytes + (0 if planes.alpha is None else planes.alpha.nbytes)

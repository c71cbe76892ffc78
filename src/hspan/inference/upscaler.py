"""Upscaling images: the network behind one call that takes any kind of image and size."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Generator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor, nn

from hspan.errors import InputError, UsageError
from hspan.hardware import (
    Precision,
    available_memory,
    available_ram,
    choose_device,
    choose_precision,
)
from hspan.imaging import Picture, read_image
from hspan.inference._assembly import Planes, Progress, upscale_planes
from hspan.inference._kinds import open_image
from hspan.inference._meter import Cost
from hspan.inference._runner import Runner
from hspan.inference.planning import LADDER, Plan, describe, network_cost, plan
from hspan.inference.tiling import Grid
from hspan.weights import load_model

Image = TypeVar("Image")

IN_MEMORY = 0.25  # of the free memory that a result may take before it is kept in a file


@dataclass(frozen=True)
class Report:
    """How an image was upscaled. Sizes are width, height in pixels, as image viewers say them."""

    lr_size: tuple[int, int]
    sr_size: tuple[int, int]
    scale: int
    model: str
    precision: Precision
    tile: int  # largest share of a tile per axis in LR pixels; 0: in one piece
    tiles: int
    because: str  # why these tiles, as a clause; empty for whole images
    repeated_in_fp32: int  # windows that weren't finite in the precision above
    seconds: float

    @property
    def summary(self) -> str:
        """How the image was cut, and why: "in one piece", "in 6 tiles of 256, because …"."""
        return describe(self.tile, self.tiles, self.because)


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
            same image in tiles as in one piece; attention sees one tile and its context.
        ensemble: return the mean over the 8 flips and rotations, at 8 times the work.

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
        overlap: int = 16,
        ensemble: bool = False,
    ) -> None:
        if scale not in (None, 2, 3, 4):
            raise UsageError(f"scale must be 2, 3 or 4, got {scale}")
        if tile != "auto" and not isinstance(tile, int):
            raise UsageError(f"tile must be auto, 0 or a number of pixels, got {tile!r}")
        Grid(1, 1, 0 if tile == "auto" else int(tile), overlap)  # refuses negative numbers
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
        self.scale = _scale_of(self.model, self.device)
        if scale not in (None, self.scale):
            raise UsageError(f"{self.name} upscales by {self.scale}, not by {scale}")
        self.precision = precision
        self._narrow: Precision = choose_precision(precision, self.device)
        self.tile = tile
        self.overlap = overlap
        self.ensemble = ensemble
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
        self, source: Planes, *, folder: Path | None = None, progress: Progress | None = None
    ) -> tuple[Planes, Report]:
        """Upscale bare planes and report how; what every other way of calling comes down to.

        Args:
            source: pixels and alpha.
            folder: where a result too large for memory is kept while it is needed, in a file
                without a name; None is the system's folder for temporary files.
            progress: as above.
        """
        begin = time.perf_counter()
        height, width = source.size
        precision = self._precision_for(source.pixels.dtype)
        tile, because = int(self.tile) if self.tile != "auto" else 0, "as asked"
        if self.tile == "auto":
            chosen = self.plan(height, width, precision)
            tile, because = chosen.tile, chosen.because
        with _evaluating(self.model):
            while True:
                grid = Grid(height, width, tile, self.overlap)
                runner = Runner(self.model, self.scale, self.device, precision, self.ensemble)
                try:
                    result = upscale_planes(
                        runner,
                        source,
                        self.scale,
                        grid,
                        in_memory=int(available_ram() * IN_MEMORY),
                        folder=folder,
                        progress=progress,
                    )
                    break
                except (RuntimeError, MemoryError) as error:
                    if not _out_of_memory(error):
                        raise
                    tile = self._smaller(grid, error)
                    because = "because larger ones did not fit into memory"
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
        )
        return result, report

    def upscale_picture(
        self, picture: Picture, *, folder: Path | None = None, progress: Progress | None = None
    ) -> tuple[Picture, Report]:
        """Upscale a picture with all that it carries, and report how; arguments as above."""
        planes = Planes(picture.pixels, picture.alpha)
        result, report = self.upscale(planes, folder=folder, progress=progress)
        return replace(picture, pixels=result.pixels, alpha=result.alpha), report

    def plan(self, height: int, width: int, precision: Precision | None = None) -> Plan:
        """Choose and predict the tiles of an LR image of that size, with the memory free now."""
        precision = precision or self._narrow
        if precision not in self._costs:
            with _evaluating(self.model):
                self._costs[precision] = network_cost(self.model, precision)
        return plan(
            self._costs[precision],
            height,
            width,
            precision,
            available_memory(self.device),
            scale=self.scale,
            tile=self.tile,
            overlap=self.overlap,
            passes=8 if self.ensemble else 1,
        )

    def _precision_for(self, dtype: np.dtype) -> Precision:
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


def _scale_of(model: nn.Module, device: torch.device) -> int:
    """What the configuration says; a network without one is tried out."""
    declared = getattr(getattr(model, "config", model), "scale", None)
    if isinstance(declared, int):
        return declared
    side = 16
    with _evaluating(model), torch.inference_mode():
        result: Tensor = model(torch.zeros(1, 3, side, side, device=device))
    if result.shape[:2] != (1, 3) or result.shape[2] % side or result.shape[2] != result.shape[3]:
        raise UsageError(
            f"{type(model).__name__} isn't a network for super-resolution: it maps [1, 3, 16, 16] "
            f"to {list(result.shape)}"
        )
    return result.shape[2] // side


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Generator[None, None, None]:
    """Evaluation mode for the time being, module by module as it was afterwards."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error)

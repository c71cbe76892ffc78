"""What the page does, without the page: files in, files, numbers and pictures out.

Everything that writes an image goes through ``plan_files`` and ``upscale_file``, as
``hspan upscale`` does, so the bytes are the same.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hspan.errors import InputError, UsageError
from hspan.explanation import Explanation, draw_explanation, explain
from hspan.imaging import ImageInfo, Picture, imresize, read_image, to_uint8
from hspan.inference import Upscaler, plan_files, upscale_file
from hspan.metrics import psnr
from hspan.web._limits import Limits
from hspan.web._previews import before_and_after, close_up, part_around, shown
from hspan.web._progress import Report, watched
from hspan.web._workspace import Workspace
from hspan.weights import shipped_weights

_HELD = 2  # networks that are kept in memory


@dataclass(frozen=True)
class Upscaled:
    """A finished upscaling.

    Attributes:
        source: the uploaded file.
        target: the result, named as ``hspan upscale`` names it.
        truth: the uploaded ground truth, or None.
        model: that did it.
        scale: its factor.
        ensemble: mean over 8 flips and rotations.
        report: what docs/web.md lists.
    """

    source: Path
    target: Path
    truth: Path | None
    model: str
    scale: int
    ensemble: bool
    report: dict[str, Any]


class Service:
    """One per server; networks are loaded when they are first asked for.

    Args:
        workspace: where results go.
        limits: what is refused.
        models: files of weights beside the shipped ones.
        device: where networks run, as in ``Upscaler``.
    """

    def __init__(
        self,
        workspace: Workspace,
        limits: Limits | None = None,
        *,
        models: Sequence[Path] = (),
        device: str = "auto",
    ) -> None:
        self.workspace = workspace
        self.limits = limits or Limits()
        self.device = device
        self._sources: dict[str, dict[int, str]] = {}
        self._upscalers: OrderedDict[tuple[str, int, bool], Upscaler] = OrderedDict()
        self._busy = threading.Lock()  # networks are hooked and switched while they run
        for weight in shipped_weights().values():
            if weight.kind == "BI":
                self._sources.setdefault(weight.model, {})[weight.scale] = weight.name
        for path in models:
            self._add(path)
        self._sources["bicubic"] = {2: "bicubic", 3: "bicubic", 4: "bicubic"}

    def _add(self, path: Path) -> None:
        upscaler = Upscaler(path, device=self.device)  # a wrong file is refused at the start
        known = self._sources.setdefault(path.stem, {})
        if upscaler.scale in known:
            raise UsageError(f"there are two models {path.stem} ×{upscaler.scale}: rename {path}")
        known[upscaler.scale] = str(path)

    @property
    def models(self) -> dict[str, list[int]]:
        """Names to choose from, and the scales of each; the first is the default."""
        return {name: sorted(scales) for name, scales in self._sources.items()}

    def upscaler(self, model: str, scale: int, ensemble: bool = False) -> Upscaler:
        """The network of a name.

        Raises:
            UsageError: no such model, or not at this scale.
        """
        if model not in self._sources:
            raise UsageError(f"there is no model {model!r} here: {', '.join(self._sources)}")
        if scale not in self._sources[model]:
            scales = ", ".join(f"×{s}" for s in self.models[model])
            raise UsageError(f"{model} enlarges by {scales}, not by ×{scale}")
        key = (model, scale, ensemble)
        if key not in self._upscalers:
            self._upscalers[key] = Upscaler(
                self._sources[model][scale], scale, device=self.device, ensemble=ensemble
            )
            while len(self._upscalers) > _HELD:
                self._upscalers.popitem(last=False)
        self._upscalers.move_to_end(key)
        return self._upscalers[key]

    def upscale(
        self,
        source: Path,
        model: str,
        scale: int,
        *,
        ensemble: bool = False,
        truth: Path | None = None,
        report: Report | None = None,
    ) -> Upscaled:
        """Upscale one uploaded file, and score it where the truth is known.

        Args:
            source: the file, of any kind that ``hspan upscale`` takes.
            model: one of ``models``.
            scale: one of its scales.
            ensemble: as in ``Upscaler``.
            truth: the HR image; its size must be the result's, but for what a multiple of the scale
                cuts off.
            report: called with the finished share of the work.

        Raises:
            InputError: a file can't be used; the sentence names it by its path.
            UsageError: no such model or scale.
        """
        info = self.limits.check(source)
        if truth is not None:
            self._check_truth(info, source, truth, scale)
        with self._busy:
            upscaler = self.upscaler(model, scale, ensemble)
            folder = self.workspace.new()
            jobs, failures = plan_files([source], upscaler.scale, out=folder)
            if failures:
                raise InputError(failures[0].reason)
            tiles = upscaler.plan(info.height, info.width).tiles
            passes = 8 if ensemble else 1
            with watched(upscaler.model, report, passes=passes, tiles=tiles) as progress:
                done = upscale_file(
                    upscaler, jobs[0], progress=None if progress is None else progress.tile
                )
        (w, h), (sr_w, sr_h) = done.lr_size, done.sr_size
        found: dict[str, Any] = {
            "name": jobs[0].target.name,
            "model": model,
            "scale": scale,
            "ensemble": ensemble,
            "lr_size": [w, h],
            "sr_size": [sr_w, sr_h],
            "precision": done.precision,
            "processed": done.summary,
            "seconds": round(done.seconds, 3),
            "score": None if truth is None else _score(source, jobs[0].target, truth, scale),
        }
        return Upscaled(source, jobs[0].target, truth, model, scale, ensemble, found)

    def _check_truth(self, lr: ImageInfo, source: Path, truth: Path, scale: int) -> None:
        """Before the work: sizes are known from the headers."""
        hr = self.limits.check(truth, area=scale**2)
        width, height = lr.width * scale, lr.height * scale
        if not (0 <= hr.width - width < scale and 0 <= hr.height - height < scale):
            raise InputError(
                f"{truth} is {hr.width}×{hr.height} and can't be the ground truth: {source.name} "
                f"enlarged {scale} times is {width}×{height}"
            )
        if min(lr.width, lr.height) < 3:
            raise InputError(f"{source} is too small to be scored: leave the ground truth out")

    def before_and_after(self, done: Upscaled) -> tuple[np.ndarray, np.ndarray]:
        """Bicubic interpolation and the result, as the page shows them."""
        return before_and_after(shown(read_image(done.source)), shown(read_image(done.target)))

    def close_up(self, done: Upscaled, at: tuple[int, int]) -> np.ndarray:
        """Bicubic, the result, and the truth where known, side by side around an LR pixel."""
        lr, sr = shown(read_image(done.source)), shown(read_image(done.target))
        truth = None if done.truth is None else shown(read_image(done.truth))
        if truth is not None:
            truth = truth[: sr.shape[0], : sr.shape[1]]
        return close_up(lr, sr, truth, at)

    def explain(
        self,
        source: Path,
        model: str,
        scale: int,
        at: tuple[int, int],
        *,
        report: Report | None = None,
    ) -> tuple[Explanation, tuple[int, int]]:
        """Say where a pixel came from, within a part of the image that is quick to look at.

        Returns:
            The explanation of the part, and the part's first column and row in the image.

        Raises:
            InputError: the file can't be used.
            UsageError: no such model, scale or place, or a model without attention.
        """
        info = self.limits.check(source)
        x, y = at
        if not (0 <= x < info.width and 0 <= y < info.height):
            raise UsageError(
                f"({x}, {y}) lies outside the image of {info.width}×{info.height} pixels"
            )
        picture = read_image(source)
        rows, columns, inner = part_around(
            (picture.height, picture.width), at, self.limits.explained
        )
        part = _cut(picture, rows, columns)
        with self._busy:
            network = self.upscaler(model, scale).model
            found = explain(
                network,
                part,
                inner,
                progress=None if report is None else lambda done, of: report(done / of),
            )
        named = dataclasses.replace(found, model=model)
        return named, (columns.start, rows.start)

    def draw(self, explanation: Explanation, title: str) -> Path:
        """Draw an explanation into a file of the workspace."""
        path = self.workspace.new() / "explain.png"
        draw_explanation(explanation, path, title=title)
        return path


def _cut(picture: Picture, rows: slice, columns: slice) -> Picture:
    alpha = None if picture.alpha is None else picture.alpha[rows, columns]
    return dataclasses.replace(picture, pixels=picture.pixels[rows, columns], alpha=alpha)


def _score(source: Path, target: Path, truth: Path, scale: int) -> dict[str, float | None]:
    """PSNR on Y by the benchmarks' protocol, of the result and of bicubic; infinite is null."""
    lr, sr, hr = (_colours(read_image(path)) for path in (source, target, truth))
    hr = hr[: sr.shape[0], : sr.shape[1]]
    bicubic = imresize(lr, scale=scale)
    scores = {"psnr": psnr(sr, hr, scale), "bicubic_psnr": psnr(bicubic, hr, scale)}
    return {name: score if math.isfinite(score) else None for name, score in scores.items()}


def _colours(picture: Picture) -> np.ndarray:
    """8-bit RGB; grey is replicated, as the protocol has it."""
    pixels = to_uint8(picture.pixels)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))

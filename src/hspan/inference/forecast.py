"""What a file will take, before any work: memory, time, and room on the disk.

Memory is that of the whole process: what it holds now, what the first image loads once (code,
tables), the pixels, and the larger of what the network needs (``planning``) and what the encoder
does. Images whose pixels would take too large a part of the memory are streamed from disk to disk
(``streaming``), and so are those that take long, as an interrupted stream goes on where it stood.

Time is that of the plan, whose machine is nominal, times how much slower this machine just was on
a small image; and what decoding and encoding take. benchmarks/plan_error.py compares forecasts with
what happens.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hspan.errors import InputError
from hspan.hardware import Precision, available_ram, held_memory
from hspan.imaging import ImageInfo, format_of, probe_image
from hspan.inference._assembly import PIECE
from hspan.inference.planning import Plan, duration_text, size_text
from hspan.inference.upscaler import IN_MEMORY, Upscaler

LONG = 300.0  # seconds of work that are worth keeping if they are interrupted
# Memory of an encoder for the whole image, in bytes per SR pixel, and pixels a second of one
# thread, measured on photographs; the others hold a few rows.
_ENCODER_BYTES = {"WebP": 14.0, "AVIF": 24.0, "JPEG": 3.0}
_ENCODER_SPEED = {"WebP": 2e6, "AVIF": 0.5e6, "JPEG": 60e6, "PNG": 4e6, "TIFF": 12e6}
_DECODER_BYTES = {"WebP": 4.0, "AVIF": 8.0}  # per LR pixel
_MEASURED = ("GeoTIFF", "OME-TIFF", "DICOM")  # always from disk to disk, band by band
_DECODER_SPEED = 30e6
# SR files compress better than the LR ones that they come from: bytes per pixel, relative.
_SMOOTHER = {"JPEG": 0.75, "WebP": 0.7, "AVIF": 0.7, "PNG": 0.85, "TIFF": 0.85}


@dataclass(frozen=True)
class Forecast:
    """What upscaling one file will take. Sizes are width, height in pixels."""

    lr_size: tuple[int, int]
    sr_size: tuple[int, int]
    pages: int
    plan: Plan  # of one page
    streamed: bool  # from disk to disk, resumable
    held_bytes: int  # by the process now
    memory_bytes: int  # at most, by the whole process, what it holds now included
    disk_bytes: int  # beside the output, until it is complete
    output_bytes: int  # about
    seconds: float

    @property
    def summary(self) -> str:
        """One line: sizes, tiles, memory, time, disk."""
        (w, h), (sr_w, sr_h) = self.lr_size, self.sr_size
        pages = f"{self.pages} pages of " if self.pages > 1 else ""
        disk = f", {size_text(self.disk_bytes)} of disk meanwhile" if self.streamed else ""
        return (
            f"{pages}{w}x{h} -> {sr_w}x{sr_h}, {self.plan.summary}; about "
            f"{size_text(self.memory_bytes)} of memory, {duration_text(self.seconds)}, "
            f"{size_text(self.output_bytes)} of output{disk}"
        )


def forecast_file(
    upscaler: Upscaler, source: Path, target: Path, *, timed: bool = True
) -> Forecast:
    """Predict what ``upscale_file`` will take, from the file's header.

    Args:
        upscaler: the network, with its limits.
        source: the image.
        target: its suffix decides how the result is encoded.
        timed: whether the network is timed on a small image first, once, which may take a second;
            without, times are those of a nominal machine unless a limit or their length matter.

    Raises:
        InputError: the source can't be read, needs more memory than ``upscaler.max_memory`` however
            it is cut, or takes longer than ``upscaler.max_seconds``.
    """
    info = probe_image(source)
    try:
        found = _forecast(upscaler, info, os.path.getsize(source), format_of(target), timed)
    except InputError as error:
        raise InputError(f"{source} {error}") from error
    if upscaler.max_seconds is not None and found.seconds > upscaler.max_seconds:
        raise InputError(
            f"{source} would take about {duration_text(found.seconds)}, more than the "
            f"{duration_text(upscaler.max_seconds)} allowed: allow more, or take a faster network"
        )
    return found


def _forecast(
    upscaler: Upscaler, info: ImageInfo, source_bytes: int, written: str | None, timed: bool
) -> Forecast:
    encoder = written if written in _ENCODER_SPEED else "TIFF"
    scale = upscaler.scale
    pixels = info.width * info.height * info.pages
    lr_bytes = pixels * info.channels * info.dtype.itemsize
    sr_bytes = lr_bytes * scale**2
    precision = upscaler.precision_for(info.dtype)
    once = upscaler.first_use_bytes()
    encoding = int(_ENCODER_BYTES.get(encoder, 0.0) * pixels * scale**2)
    decoding = int(_DECODER_BYTES.get(info.format, 0.0) * pixels)
    held, room = held_memory(), available_ram()
    if upscaler.max_memory is not None:
        room = min(room, upscaler.max_memory - held - once)
    streamed = lr_bytes + sr_bytes > IN_MEMORY * room or info.format in _MEASURED
    beside = lr_bytes + sr_bytes if not streamed else _rows(info, scale)
    plan = upscaler.plan(
        info.height, info.width, precision, planes=info.channels, beside=beside + once
    )
    working = plan.predicted_bytes if upscaler.device.type == "cpu" else 0
    seconds = (
        info.pages * _network_seconds(upscaler, plan, precision, timed)
        + pixels / _DECODER_SPEED
        + pixels * scale**2 / _ENCODER_SPEED[encoder]
    )
    streamed = streamed or seconds > LONG
    kept = _rows(info, scale) if streamed else lr_bytes + sr_bytes
    peak = max(kept + working, kept + encoding, decoding + (0 if streamed else lr_bytes))
    smoother = _SMOOTHER.get(encoder, 1.0) if encoder == info.format else 1.0
    per_pixel = min(source_bytes / pixels, info.channels * info.dtype.itemsize)
    return Forecast(
        lr_size=(info.width, info.height),
        sr_size=(info.width * scale, info.height * scale),
        pages=info.pages,
        plan=plan,
        streamed=streamed,
        held_bytes=held,
        memory_bytes=held + once + peak,
        disk_bytes=lr_bytes + sr_bytes if streamed else 0,
        output_bytes=int(smoother * per_pixel * pixels * scale**2),
        seconds=seconds,
    )


def _network_seconds(upscaler: Upscaler, plan: Plan, precision: Precision, timed: bool) -> float:
    timed = timed or upscaler.max_seconds is not None
    if not timed and plan.predicted_seconds < LONG / 10:  # no machine is so slow
        return plan.predicted_seconds
    passes = 8 if upscaler.ensemble else 1
    pixels = plan.tiles * plan.window[0] * plan.window[1]
    return upscaler.pace(precision).seconds(plan.predicted_seconds, passes * pixels)


def _rows(info: ImageInfo, scale: int) -> int:
    """Bytes of the rows that are mapped in at any time while an image is streamed."""
    return PIECE * info.width * scale * info.channels * np.dtype(info.dtype).itemsize

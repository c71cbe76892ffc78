"""Videos frame by frame, through PyAV: ``pip install 'hspan[video]'``.

Frames go through the network in order and keep their timestamps; audio and subtitles are copied,
not encoded again. Colours are converted with the matrix and range that the video names (where it
names none: BT.709 from 720 lines on, BT.601 below, as players do), and back with the same. A
rotation that the file asks for is applied. More than 8 bits stay 10.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from hspan.errors import InputError, UsageError
from hspan.inference import Planes, Upscaler
from hspan.inference.batch import give_name
from hspan.inference.files import exists_already, prepare_folder

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm"})
_BT601, _BT709, _BT2020 = 5, 1, 9  # as FFmpeg numbers colour matrices
_SWSCALE = {_BT709: 1, 5: 5, 6: 5, 7: 7, _BT2020: 9, 10: 9}  # its scaler has names of its own
_UNKNOWN = 2
_HD_LINES = 720
_FULL_RANGE = 2


class StoppedError(Exception):
    """Somebody asked for a stop; nothing was written."""


@dataclass(frozen=True)
class VideoReport:
    """How a video was upscaled: its frames, sizes (width, height), codec, and seconds."""

    frames: int
    lr_size: tuple[int, int]
    sr_size: tuple[int, int]
    codec: str
    seconds: float


def upscale_video(
    upscaler: Upscaler,
    source: Path,
    target: Path,
    *,
    overwrite: bool = False,
    crf: int = 16,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] | None = None,
) -> VideoReport:
    """Upscale a video; the output appears under its name when it is whole.

    Args:
        upscaler: the network.
        source: any video that FFmpeg reads.
        target: .mp4, .m4v, .mov or .mkv for H.264, .webm for VP9.
        overwrite: whether the target may be replaced.
        crf: quality, 0 (best) to 51; 16 can hardly be told from the frames.
        stop: asked after every frame.
        progress: called with the number of finished frames and of all, 0 if unknown.

    Raises:
        UsageError: PyAV isn't installed, or the target's suffix isn't one of these.
        InputError: the source can't be read, or the target can't be written.
        StoppedError: as ``stop`` asked for.
    """
    try:
        av: Any = import_module("av")
    except ImportError as error:
        raise UsageError("videos need one more package: pip install 'hspan[video]'") from error
    if target.suffix.lower() not in VIDEO_SUFFIXES:
        known = ", ".join(sorted(VIDEO_SUFFIXES))
        raise UsageError(f"can't write {target}: a video's name must end in one of {known}")
    if target.exists() and not overwrite:
        raise InputError(f"{source}: {exists_already(target)}")
    if target.exists() and target.samefile(source):
        raise InputError(f"{source}: the output would replace it")
    prepare_folder(target.parent)
    unnamed = target.with_name(f".hspan-{secrets.token_hex(6)}.part{target.suffix.lower()}")
    begin = time.perf_counter()
    try:
        with av.open(str(source)) as lr, av.open(str(unnamed), "w") as sr:
            writer = _Writer(upscaler, lr, sr, source, crf)
            total = int(writer.lr_video.frames)
            for done in writer.run():
                if progress is not None:
                    progress(done, total)
                if stop():
                    raise StoppedError
        give_name(unnamed, target, overwrite=overwrite)
    except av.FFmpegError as error:
        raise InputError(
            f"{source} can't be upscaled as a video: {error.strerror or error}"
        ) from error
    except OSError as error:
        raise InputError(f"{target} can't be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            unnamed.unlink()
    return VideoReport(
        writer.frames, writer.lr_size, writer.sr_size, writer.codec, time.perf_counter() - begin
    )


class _Writer:
    """Moves packets from one container to another, the video's through the network."""

    def __init__(self, upscaler: Upscaler, lr: Any, sr: Any, source: Path, crf: int) -> None:
        if not lr.streams.video:
            raise InputError(f"{source} has no video in it")
        self._upscaler = upscaler
        self._lr, self._sr = lr, sr
        self.lr_video = lr.streams.video[0]
        self.lr_video.thread_type = "AUTO"
        self._crf = crf
        webm = "webm" in str(sr.format.name)
        self.codec = "libvpx-vp9" if webm else "libx264"
        kept = [*lr.streams.audio, *(lr.streams.subtitles if "matroska" in sr.format.name else ())]
        self._copies: dict[int, Any] = {}
        deep = max(c.bits for c in self.lr_video.codec_context.format.components) > 8
        self._format = "yuv420p10le" if deep else "yuv420p"
        self._rgb = "rgb48le" if deep else "rgb24"
        self.frames = 0
        self.lr_size = self.sr_size = (0, 0)
        self._video: Any = sr.add_stream(self.codec, rate=self.lr_video.average_rate)
        for stream in kept:
            self._copies[stream.index] = sr.add_stream_from_template(stream)

    def run(self) -> Iterator[int]:
        """Work; yields the number of finished frames."""
        waiting: list[Any] = []  # packets before the first frame, which settles the header
        streams = [self.lr_video, *(self._lr.streams[i] for i in self._copies)]
        for packet in self._lr.demux(streams):
            if packet.stream.index == self.lr_video.index:
                for frame in packet.decode():
                    self._encode(frame)
                    for early in waiting:
                        self._sr.mux(early)
                    waiting = []
                    yield self.frames
            elif packet.dts is not None:
                packet.stream = self._copies[packet.stream.index]
                if self.frames:
                    self._sr.mux(packet)
                else:
                    waiting.append(packet)
        for packet in self._video.encode():
            self._sr.mux(packet)

    def _encode(self, frame: Any) -> None:
        matrix = int(frame.colorspace)
        if matrix not in _SWSCALE:
            matrix = _BT709 if frame.height >= _HD_LINES else _BT601
        colours = {"src_colorspace": _SWSCALE[matrix], "dst_colorspace": _SWSCALE[matrix]}
        full = int(frame.color_range) == _FULL_RANGE
        ranges = {"src_color_range": 2 if full else 1, "dst_color_range": 2}
        pixels = frame.reformat(format=self._rgb, **colours, **ranges).to_ndarray()
        turns = round(frame.rotation / 90) % 4
        pixels = np.ascontiguousarray(np.rot90(pixels, turns))
        result, report = self._upscaler.upscale(Planes(pixels))
        if not self.frames:
            self.lr_size, self.sr_size = report.lr_size, report.sr_size
            self._open(frame, turns)
        grown = type(frame).from_ndarray(np.ascontiguousarray(result.pixels), format=self._rgb)
        ranges = {"src_color_range": 2, "dst_color_range": 2 if full else 1}
        grown = grown.reformat(format=self._format, **colours, **ranges)
        grown.pts, grown.time_base = frame.pts, frame.time_base
        for packet in self._video.encode(grown):
            self._sr.mux(packet)
        self.frames += 1

    def _open(self, frame: Any, turns: int) -> None:
        """Settle what only the first frame tells for sure."""
        context = self._video.codec_context
        context.width, context.height = self.sr_size
        context.pix_fmt = self._format
        context.time_base = frame.time_base
        context.options = {"crf": str(self._crf)}
        if self.codec == "libvpx-vp9":
            context.options = {**context.options, "b": "0"}
        for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
            value = int(getattr(frame, name, getattr(self.lr_video.codec_context, name, 0)))
            if value not in (0, _UNKNOWN) or name == "color_range":
                setattr(context, name, value)
        ratio = self.lr_video.sample_aspect_ratio
        if ratio:
            context.sample_aspect_ratio = 1 / ratio if turns % 2 else ratio

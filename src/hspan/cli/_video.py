"""``hspan upscale clip.mp4``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hspan.cli._batch_report import BatchReport
from hspan.cli._interruption import Interruption

if TYPE_CHECKING:
    from hspan.inference import Upscaler


def split_videos(given: list[Path]) -> tuple[list[Path], list[Path]]:
    """Videos by their names, and everything else."""
    from hspan.integrations.video import VIDEO_SUFFIXES

    videos = [path for path in given if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
    return videos, [path for path in given if path not in videos]


def upscale_videos(
    upscaler: Upscaler,
    videos: list[Path],
    out: Path | None,
    report: BatchReport,
    stop: Interruption,
    *,
    suffix: str | None,
    overwrite: bool,
    skip_existing: bool,
) -> None:
    """One video after the other; a failure is taken down, and the others are done."""
    from hspan.inference import failure_reason
    from hspan.inference.files import output_suffix
    from hspan.integrations.video import VIDEO_SUFFIXES, StoppedError, upscale_video

    ending = output_suffix(suffix, upscaler.scale)
    for source in videos:
        if stop():
            return
        if out is not None and out.suffix.lower() in VIDEO_SUFFIXES and len(videos) == 1:
            target = out
        else:
            target = (out or source.parent) / f"{source.stem}{ending}{source.suffix}"
        if skip_existing and target.exists():
            report.skip(str(source), str(target))
            continue
        try:
            with report.progress(len(videos)) as advance:

                def show(done: int, frames: int, name: str = source.name) -> None:
                    if advance is not None:
                        advance(name, done, max(frames, done))

                result = upscale_video(
                    upscaler, source, target, overwrite=overwrite, stop=stop, progress=show
                )
        except StoppedError:
            return
        except Exception as error:
            report.fail(str(source), str(target), failure_reason(source, error))
            continue
        (w, h), (sr_w, sr_h) = result.lr_size, result.sr_size
        report.done(
            {
                "input": str(source),
                "output": str(target),
                "status": "done",
                "seconds": round(result.seconds, 3),
                "lr_size": result.lr_size,
                "sr_size": result.sr_size,
                "model": upscaler.name,
                "scale": upscaler.scale,
                "frames": result.frames,
                "codec": result.codec,
            },
            f"{source} -> {target}  {w}x{h} -> {sr_w}x{sr_h}, {result.frames} frames, "
            f"{upscaler.name}, {result.codec}, {result.seconds:.1f} s",
        )

"""Needs the extra [video]."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from hspan.cli import main
from hspan.errors import InputError, UsageError
from hspan.inference import Upscaler

av = pytest.importorskip("av")

from hspan.integrations.video import StoppedError, upscale_video  # noqa: E402

TIMES = [0, 40, 80, 200, 240, 480, 520, 521]  # milliseconds: no constant rate
COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (180, 180, 40)]


def clip(path, *, depth=8, full=False, sound=True):
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"crf": "5"})
        video.width, video.height = 48, 32
        video.pix_fmt = "yuv420p10le" if depth > 8 else "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        video.codec_context.colorspace = 1
        video.codec_context.color_range = 2 if full else 1
        audio = out.add_stream("aac", rate=8000) if sound else None
        for i, when in enumerate(TIMES):
            pixels = np.empty((32, 48, 3), np.uint8)
            pixels[:] = COLOURS[i % 4]
            pixels[:, : 6 * i] = 20  # a bar that grows: the order can be seen
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            ranges = {"src_color_range": 2, "dst_color_range": 2 if full else 1}
            frame = frame.reformat(format=video.pix_fmt, dst_colorspace=1, **ranges)
            frame.pts, frame.time_base = when, Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        if audio is not None:
            tone = np.sin(np.arange(1024) / 9).astype(np.float32)[None]
            for i in range(5):
                sample = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                sample.sample_rate, sample.pts = 8000, 1024 * i
                out.mux(audio.encode(sample))
            out.mux(audio.encode())
    return path


def read(path):
    """Times, RGB of each frame, and the audio's packets."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
        matrix = {"src_colorspace": 1, "dst_color_range": 2}
        ranges = {"src_color_range": int(frames[0].color_range)}
        pixels = [f.reformat(format="rgb24", **matrix, **ranges).to_ndarray() for f in frames]
        times = [float(f.pts * f.time_base) for f in frames]
        depth = max(c.bits for c in file.streams.video[0].format.components)
    with av.open(str(path)) as file:
        sound = [bytes(p) for p in file.demux(audio=0) if p.dts is not None]
    return times, pixels, sound, depth


class Nearest(torch.nn.Module):
    """Repeats every pixel."""

    scale = 2

    def forward(self, x):
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.fixture
def upscaler():
    return Upscaler(Nearest(), device="cpu")


@pytest.mark.parametrize(
    ("suffix", "depth", "full"), [(".mp4", 8, False), (".mkv", 8, True), (".mkv", 10, False)]
)
def test_frames_times_colours_and_sound_stay(upscaler, tmp_path, suffix, depth, full):
    source = clip(tmp_path / f"a{suffix}", depth=depth, full=full)
    seen = []
    report = upscale_video(
        upscaler, source, tmp_path / f"b{suffix}", progress=lambda *w: seen.append(w[0])
    )
    assert (report.frames, report.lr_size, report.sr_size) == (8, (48, 32), (96, 64))
    assert seen == list(range(1, 9))
    times, pixels, sound, bits = read(source)
    new_times, new_pixels, new_sound, new_bits = read(tmp_path / f"b{suffix}")
    assert new_times == times
    assert len(times) == 8
    assert new_sound == sound
    assert len(sound) >= 5
    assert new_bits == bits == depth
    for old, new in zip(pixels, new_pixels, strict=True):
        assert np.abs(new[::2, ::2].astype(int) - old).mean() < 3
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_what_goes_wrong_leaves_nothing(upscaler, tmp_path):
    source = clip(tmp_path / "a.mp4", sound=False)
    with pytest.raises(StoppedError):
        upscale_video(upscaler, source, tmp_path / "b.mp4", stop=lambda: True)
    with pytest.raises(UsageError, match="must end in one of"):
        upscale_video(upscaler, source, tmp_path / "b.avi")
    with pytest.raises(InputError, match="would replace"):
        upscale_video(upscaler, source, source, overwrite=True)
    with pytest.raises(InputError, match="exists already"):
        upscale_video(upscaler, source, source)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match="can't be upscaled as a video"):
        upscale_video(upscaler, tmp_path / "text.mp4", tmp_path / "b.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "text.mp4"]


def test_the_command(tmp_path, capsys):
    source = clip(tmp_path / "a.mp4")
    words = ["upscale", str(source), "-m", "bicubic", "--device", "cpu"]
    assert main(words) == 0
    assert "8 frames" in capsys.readouterr().out
    assert len(read(tmp_path / "a_x2.mp4")[0]) == 8
    assert main(words) == 1
    assert "exists already" in capsys.readouterr().err
    assert main([*words, "-o", str(tmp_path / "there.webm")]) == 1  # aac can't go into webm
    assert main([*words, "-o", str(tmp_path / "out" / "b.mkv")]) == 0
    assert len(read(tmp_path / "out" / "b.mkv")[0]) == 8

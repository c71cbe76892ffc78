"""From disk to disk: the same bytes as in memory, and after any number of interruptions."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from hspan.errors import InputError
from hspan.imaging import Picture, read_image, write_image
from hspan.inference import Job, Upscaler, stream_file, upscale_file
from hspan.inference._checkpoint import Checkpoint
from hspan.inference.streaming import partial_folder


def noise(*shape, dtype="uint16", seed=0):
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top, shape, dtype, endpoint=True)


def save(path, *shape, alpha=False, **fields):
    pixels = noise(*shape)
    write_image(path, Picture(pixels, noise(*shape[:2], seed=1) if alpha else None, **fields))
    return path


class InterruptedHereError(Exception):
    pass


def stop_after(tiles):
    def progress(done, total):
        if done == tiles:
            raise InterruptedHereError

    return progress


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_the_same_file_as_in_memory(local, tmp_path, alpha, suffix):
    source = save(tmp_path / "a.tif", 40, 50, 3, alpha=alpha, dpi=(300.0, 300.0))
    upscaler = Upscaler(local(2, 4), tile=16, overlap=4)
    upscale_file(upscaler, Job(source, tmp_path / f"memory{suffix}"))
    stream_file(upscaler, source, tmp_path / f"disk{suffix}")
    read = [(tmp_path / f"{name}{suffix}").read_bytes() for name in ("memory", "disk")]
    assert read[0] == read[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.tif",
        f"disk{suffix}",
        f"memory{suffix}",
    ]


@pytest.mark.parametrize("keep_seconds", [0.0, 99.0])
@pytest.mark.parametrize("stops", [(1,), (4, 5), (3, 7, 8, 11, 12)])
def test_interrupted_equals_undisturbed(local, tmp_path, monkeypatch, keep_seconds, stops):
    """Stopped after any tile, with results of single tiles kept or only those of rows."""
    monkeypatch.setattr("hspan.inference._checkpoint.KEEP_SECONDS", keep_seconds)
    monkeypatch.setattr(Checkpoint.__init__, "__kwdefaults__", {"keep_seconds": keep_seconds})
    source = save(tmp_path / "a.tif", 40, 50, 3, alpha=True)
    upscaler = Upscaler(local(2, 4), tile=16, overlap=4)
    stream_file(upscaler, source, tmp_path / "straight.tif")
    target = tmp_path / "resumed.tif"
    for tiles in stops:
        with pytest.raises(InterruptedHereError):
            stream_file(upscaler, source, target, progress=stop_after(tiles))
        assert not target.exists()
    calls = []
    report = stream_file(upscaler, source, target, progress=lambda *c: calls.append(c))
    assert report.tiles == 12
    assert report.resumed == stops[-1] // 4 * 4 - (4 if stops[-1] % 4 == 0 else 0)
    assert calls[-1] == (12, 12)
    assert target.read_bytes() == (tmp_path / "straight.tif").read_bytes()
    assert not partial_folder(target).exists()


def test_finished_tiles_are_not_computed_again(nearest, tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoint.__init__, "__kwdefaults__", {"keep_seconds": 0.0})
    source = save(tmp_path / "a.tif", 40, 40, 3)
    with pytest.raises(InterruptedHereError):
        stream_file(
            Upscaler(nearest(), tile=10, overlap=0),
            source,
            tmp_path / "b.tif",
            progress=stop_after(7),
        )
    network = nearest()
    stream_file(Upscaler(network, tile=10, overlap=0), source, tmp_path / "b.tif")
    planning = 3
    assert len(network.seen) - planning == 16 - 7


@pytest.mark.parametrize("change", ["input", "weights", "overlap"])
def test_other_input_or_settings_begin_anew(local, tmp_path, change):
    source = save(tmp_path / "a.tif", 40, 50, 3)
    network, overlap = local(2, 4), 4
    target = tmp_path / "b.tif"
    with pytest.raises(InterruptedHereError):
        stream_file(Upscaler(network, tile=16, overlap=4), source, target, progress=stop_after(9))
    if change == "input":
        tifffile.imwrite(source, noise(40, 50, 3, seed=5), photometric="rgb")
    elif change == "weights":
        network.conv.bias.data.add_(0.01)
    else:
        overlap = 8
    upscaler = Upscaler(network, tile=16, overlap=overlap)
    assert stream_file(upscaler, source, target).resumed == 0
    stream_file(upscaler, source, tmp_path / "fresh.tif")
    assert target.read_bytes() == (tmp_path / "fresh.tif").read_bytes()


def test_a_damaged_tile_is_computed_again(local, tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoint.__init__, "__kwdefaults__", {"keep_seconds": 0.0})
    source = save(tmp_path / "a.tif", 20, 50, 3)
    upscaler = Upscaler(local(2, 4), tile=16, overlap=4)
    stream_file(upscaler, source, tmp_path / "straight.tif")
    target = tmp_path / "b.tif"
    with pytest.raises(InterruptedHereError):
        stream_file(upscaler, source, target, progress=stop_after(3))
    kept = next(partial_folder(target).glob("*/tiles-*.raw"))
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 0x40
    kept.write_bytes(content)
    stream_file(upscaler, source, target)
    assert target.read_bytes() == (tmp_path / "straight.tif").read_bytes()


def test_pages_and_orientation(nearest, tmp_path):
    pages = noise(3, 12, 10, 3, dtype="uint8")
    frames = [Image.fromarray(page) for page in pages]
    exif = Image.Exif()
    exif[0x0112] = 6
    frames[0].save(tmp_path / "turned.tif", exif=exif)
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    upscaler = Upscaler(nearest(), tile=5, overlap=0)
    stream_file(upscaler, tmp_path / "turned.tif", tmp_path / "out.tif")
    expected = np.rot90(pages[0], -1).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(read_image(tmp_path / "out.tif").pixels, expected)
    report = stream_file(upscaler, tmp_path / "pages.tif", tmp_path / "out-pages.tif")
    assert report.tiles == 3 * 6
    with tifffile.TiffFile(tmp_path / "out-pages.tif") as file:
        assert len(file.pages) == 3
        for page, before in zip(file.pages, pages, strict=True):
            np.testing.assert_array_equal(page.asarray(), before.repeat(2, 0).repeat(2, 1))


def test_failures_leave_nothing(nearest, tmp_path):
    broken = tmp_path / "a.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError, match="damaged"):
        stream_file(Upscaler(nearest()), broken, tmp_path / "b.png")
    with pytest.raises(InputError, match="doesn't exist"):
        stream_file(Upscaler(nearest()), tmp_path / "c.png", tmp_path / "b.png")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_full_disk_leaves_what_is_done(nearest, tmp_path, monkeypatch):
    source = save(tmp_path / "a.tif", 40, 40, 3)
    upscaler, target = Upscaler(nearest(), tile=10, overlap=0), tmp_path / "b.tif"
    finish = Checkpoint.finish_row

    def full(self, row, carry, flush):
        if row == 2:
            raise OSError(28, "No space left on device")
        finish(self, row, carry, flush)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "finish_row", full)
        with pytest.raises(InputError, match=r"No space left on device; once that is put right"):
            stream_file(upscaler, source, target)
    assert stream_file(upscaler, source, target).resumed == 8


def test_two_processes_do_not_share_a_target(nearest, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    source = save(tmp_path / "a.tif", 8, 8, 3)
    folder = partial_folder(tmp_path / "b.tif")
    folder.mkdir()
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is at work"):
            stream_file(Upscaler(nearest()), source, tmp_path / "b.tif")


def test_the_input_stays_as_it_is(nearest, tmp_path):
    source = save(tmp_path / "a.tif", 20, 20, 3)
    before, stat = source.read_bytes(), source.stat()
    stream_file(Upscaler(nearest(), tile=8), source, tmp_path / "b.tif")
    assert source.read_bytes() == before
    assert source.stat().st_mtime_ns == stat.st_mtime_ns


LARGE = """
import sys
from pathlib import Path
from hspan.inference import Upscaler, forecast_file, stream_file
from hspan.models import create_model

source, target = Path(sys.argv[1]), Path(sys.argv[2])
upscaler = Upscaler(create_model("bicubic", scale=2), tile=512, max_memory=550_000_000)
found = forecast_file(upscaler, source, target)
stream_file(upscaler, source, target)
lines = Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
print(peak, found.memory_bytes, found.streamed)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_image(tmp_path):
    """126 MB of pixels in and out: held in memory they would be seen."""
    line = np.linspace(0, 65535, 1024).astype(np.uint16)
    image = np.broadcast_to(line[None, :, None], (4096, 1024, 3))
    peaks = {}
    # One arena and one thread: peaks of equal runs otherwise differ by more than what is sought.
    steady = {**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    for height in (512, 4096):
        tifffile.imwrite(tmp_path / "a.tif", image[:height], photometric="rgb", tile=(256, 256))
        run = subprocess.run(
            [sys.executable, "-c", LARGE, str(tmp_path / "a.tif"), str(tmp_path / f"{height}.tif")],
            capture_output=True,
            text=True,
            check=True,
            env=steady,
        )
        peak, predicted, streamed = run.stdout.split()
        peaks[height] = int(peak)
        assert 0.7 <= int(predicted) / int(peak) <= 1.4
    assert streamed == "True"
    # Source and result of the larger one have 110 MB more.
    assert peaks[4096] - peaks[512] < 80e6


KILLED = """
import sys, time
from pathlib import Path
from hspan.inference import Upscaler, stream_file
from hspan.models import create_model

def slowly(done, tiles):
    print(done, flush=True)
    time.sleep(0.05)

upscaler = Upscaler(create_model("bicubic", scale=2), tile=32, overlap=4)
print(stream_file(upscaler, Path(sys.argv[1]), Path(sys.argv[2]), progress=slowly).resumed)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_killed_without_warning(tmp_path):
    source, target = save(tmp_path / "a.tif", 120, 120, 3), tmp_path / "b.tif"
    command = [sys.executable, "-c", KILLED, str(source), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip() == "10":
                os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not target.exists()
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split()[-1] == "8"
    command[-1] = str(tmp_path / "straight.tif")
    subprocess.run(command, capture_output=True, check=True)
    assert target.read_bytes() == (tmp_path / "straight.tif").read_bytes()

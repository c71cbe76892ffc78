import subprocess
import sys

import numpy as np
import pytest
import tifffile

from hspan.errors import InputError, UsageError
from hspan.imaging import Picture, write_image
from hspan.inference import Job, Upscaler, forecast_file, upscale_file
from hspan.inference.forecast import LONG


def save(path, height=40, width=50, **fields):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    write_image(path, Picture(pixels, **fields))
    return path


def test_sizes_and_room(nearest, tmp_path):
    found = forecast_file(Upscaler(nearest(3), 3), save(tmp_path / "a.png"), tmp_path / "b.png")
    assert (found.lr_size, found.sr_size, found.pages) == ((50, 40), (150, 120), 1)
    assert (found.streamed, found.disk_bytes) == (False, 0)
    assert found.memory_bytes > found.held_bytes > 50e6
    assert 0.5 * 150 * 120 * 3 < found.output_bytes <= 150 * 120 * 3
    assert found.summary.startswith("50x40 -> 150x120, in one piece; about ")


def test_memory_decides_tile_and_streaming(local, tmp_path, monkeypatch):
    held = 400 * 10**6  # whatever ran in this process before
    for module in ("forecast", "upscaler"):
        monkeypatch.setattr(f"hspan.inference.{module}.held_memory", lambda: held)
    source = save(tmp_path / "a.png", 1500, 1500)
    free = forecast_file(Upscaler(local(2, 4)), source, tmp_path / "b.png")
    assert (free.plan.tiles, free.streamed) == (1, False)
    for room in (180, 150):
        limit = held + room * 10**6
        tight = forecast_file(Upscaler(local(2, 4), max_memory=limit), source, tmp_path / "b.png")
        assert tight.plan.tiles > 1
        assert tight.streamed
        assert tight.disk_bytes == 1500 * 1500 * 3 * 5
        assert tight.memory_bytes <= limit + 5e6


def test_too_little_memory_is_refused_in_one_sentence(nearest, tmp_path):
    network = nearest()
    upscaler = Upscaler(network, max_memory=10**6)
    source = save(tmp_path / "a.png")
    with pytest.raises(
        InputError, match=r"a\.png needs about [\d.]+ [MG]B of memory .* 1 MB allowed"
    ):
        upscale_file(upscaler, Job(source, tmp_path / "b.png"))
    assert not (tmp_path / "b.png").exists()
    assert (1, 3, 40, 50) not in network.seen


def test_too_much_time_is_refused_before_the_work(nearest, tmp_path):
    network = nearest()
    source = save(tmp_path / "a.png", 700, 600)
    upscaler = Upscaler(network, max_seconds=1e-6)
    with pytest.raises(InputError, match=r"a\.png would take about .* 0\.0 s allowed"):
        upscale_file(upscaler, Job(source, tmp_path / "b.png"))
    assert max(max(shape) for shape in network.seen) <= 256
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("limits", [{"max_memory": 0}, {"max_seconds": 0}, {"max_seconds": -1}])
def test_absurd_limits(nearest, limits):
    with pytest.raises(UsageError, match="above 0"):
        Upscaler(nearest(), **limits)


def test_what_takes_long_is_resumable(nearest, tmp_path, monkeypatch):
    from hspan.inference import forecast

    source = save(tmp_path / "a.png")
    monkeypatch.setattr(forecast, "_network_seconds", lambda *a: LONG + 1)
    assert forecast_file(Upscaler(nearest()), source, tmp_path / "b.png").streamed


def test_pages_and_measurements(nearest, tmp_path):
    pages = np.zeros((3, 20, 30), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", metadata=None)
    found = forecast_file(Upscaler(nearest()), tmp_path / "a.tif", tmp_path / "b.tif")
    assert (found.pages, found.streamed) == (3, False)
    assert found.summary.startswith("3 pages of 30x20 -> 60x40")
    planes = np.arange(6 * 600, dtype=np.uint16).reshape(6, 20, 30)
    tifffile.imwrite(tmp_path / "o.ome.tif", planes, ome=True)
    found = forecast_file(Upscaler(nearest()), tmp_path / "o.ome.tif", tmp_path / "p.ome.tif")
    assert (found.pages, found.streamed) == (6, True)


MEASURE = """
import sys
from pathlib import Path
from hspan.inference import Job, Upscaler, forecast_file, upscale_file

source, target = Path(sys.argv[1]), Path(sys.argv[2])
upscaler = Upscaler("hspan-light", 2)
found = forecast_file(upscaler, source, target, timed=False)
upscale_file(upscaler, Job(source, target))
lines = Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
print(found.memory_bytes / peak)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_what_the_process_takes(tmp_path):
    """Within 25 %; benchmarks/plan_error.py has 20 sizes and 3 models."""
    source = save(tmp_path / "a.png", 240, 320)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(source), str(tmp_path / "b.png")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0.75 <= float(run.stdout) <= 1.25

import itertools
import os
import subprocess
import sys

import pytest

from hspan.errors import UsageError
from hspan.inference import Plan, network_cost, plan
from hspan.inference._speed import Rate, Speed
from hspan.inference.planning import (
    INSTANT,
    LADDER,
    PATIENCE,
    SHARE,
    describe,
    duration_text,
    size_text,
)
from hspan.models import create_model

GB = 10**9


@pytest.fixture(scope="module")
def light():
    return network_cost(create_model("hspan-light", scale=2).eval())


def machine(attention: float = 1.0) -> Speed:
    """One whose attention takes so many times what it takes on two cores with AVX-512."""
    rate = Rate(300e9 / attention, 0.1e-9 * attention, 2.5e-6 * attention)
    return Speed(400e9, compiled=rate, plain=rate)


def test_small_images_stay_whole(light):
    chosen = plan(light, 120, 90, scale=2, available_memory=8 * GB)
    assert (chosen.tile, chosen.tiles, chosen.window) == (0, 1, (120, 90))
    assert (chosen.why, chosen.summary) == ("whole image", "in one piece")


def test_photographs_stay_whole_where_attention_is_fast(light):
    """What benchmarks/whole_image.py measures: 512×512 LR pixels, half a gigabyte is enough."""
    chosen = plan(light, 512, 512, scale=2, available_memory=GB, speed=machine())
    assert chosen.why == "whole image"
    slow = plan(light, 512, 512, scale=2, available_memory=GB, speed=machine(attention=20))
    assert slow.why == "time"


def test_attention_limits_the_tile_by_time(light):
    def choose(tile: int | str) -> Plan:
        return plan(
            light, 3000, 4000, scale=2, available_memory=64 * GB, speed=machine(), tile=tile
        )

    chosen = choose("auto")
    assert chosen.why == "time"
    assert chosen.predicted_bytes < SHARE * 64 * GB
    assert chosen.tile in LADDER
    larger = LADDER[LADDER.index(chosen.tile) - 1]
    fastest = min(choose(size).predicted_seconds for size in (0, *LADDER))
    assert chosen.predicted_seconds <= PATIENCE * fastest < choose(larger).predicted_seconds
    whole = choose(0).predicted_seconds
    assert chosen.predicted_seconds < whole
    assert chosen.summary == (
        f"in {chosen.tiles} tiles of {chosen.tile}, because the whole image would take about "
        f"{duration_text(whole)} instead of {duration_text(chosen.predicted_seconds)}"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.16, "8.2 s"), (75, "75 s"), (750, "12 min"), (12_240, "3.4 h")]
)
def test_durations_in_words(seconds, text):
    assert duration_text(seconds) == text


def test_pages_in_words():
    assert describe(0, 3, "") == "in 3 parts, each in one piece"


def test_sizes_in_words():
    assert [size_text(12_345_678), size_text(3_400_000_000)] == ["12 MB", "3.4 GB"]


def test_slower_attention_never_means_larger_tiles(light):
    tiles = [
        plan(light, 2000, 2000, scale=2, available_memory=64 * GB, speed=machine(a)).tile
        for a in (1 / 16, 1 / 4, 1, 4, 16, 64)
    ]
    assert tiles[0] == 0
    assert tiles[1:] == sorted((t or 2000 for t in tiles[1:]), reverse=True)
    assert tiles[-1] < tiles[1]


def test_seconds_that_nobody_minds_are_spent(light):
    """Attention so slow that tiles are several times faster: short is still short."""

    def choose(size: int, **options) -> Plan:
        options = {"scale": 2, "available_memory": 8 * GB, "overlap": 0, **options}
        return plan(light, size, size, speed=machine(attention=30), **options)

    whole, tiled = choose(260), choose(260, tile=64)
    assert PATIENCE * tiled.predicted_seconds < whole.predicted_seconds <= INSTANT
    assert whole.why == "whole image"
    assert choose(260, passes=8).why == "time"
    assert choose(500).why == "time"


def test_networks_without_attention_prefer_large_tiles(local):
    network = local(2, 2)
    whole = plan(network, 2000, 3000, scale=2, available_memory=64 * GB)
    assert whole.tile == 0
    chosen = plan(network, 2000, 3000, scale=2, available_memory=GB)
    assert chosen.why == "memory"
    needed = f"{whole.predicted_bytes / GB:.1f} GB"
    assert chosen.because == (
        f"because the whole image needs about {needed} of memory and 700 MB may be used"
    )
    assert chosen.predicted_bytes <= SHARE * GB


def test_less_memory_never_means_more_tile(light):
    plans = [plan(light, 4000, 4000, scale=4, available_memory=m * GB // 10) for m in range(2, 40)]
    for less, more in itertools.pairwise(plans):
        assert less.tile <= more.tile
    assert all(p.predicted_bytes <= SHARE * p.available_bytes for p in plans[8:])


def test_hopeless_memory_gives_the_smallest_tile(light):
    chosen = plan(light, 5000, 5000, scale=2, available_memory=0)
    assert (chosen.tile, chosen.why) == (16, "memory")


def test_huge_image_is_planned_in_tiles_within_memory(light):
    chosen = plan(light, 20_000, 20_000, scale=2, available_memory=4 * GB)
    assert chosen.tile > 0
    assert chosen.tiles > 500
    assert chosen.predicted_bytes < SHARE * 4 * GB


def test_a_named_tile_is_kept(light):
    chosen = plan(light, 1000, 1000, scale=2, available_memory=GB, tile=300)
    assert (chosen.tile, chosen.tiles, chosen.why) == (300, 16, "asked for")
    assert chosen.window == (250 + 2 * 20, 250 + 2 * 20)
    assert chosen.summary == "in 16 tiles of 300, as asked"
    with pytest.raises(UsageError, match="tile must be auto"):
        plan(light, 10, 10, scale=2, tile="big")


MEASURE = """
import sys, torch
from hspan.inference.planning import in_precision, network_cost
from hspan.models import create_model

def status(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

torch.set_num_threads(1)
torch.manual_seed(0)
precision, size = sys.argv[1], int(sys.argv[2])
network = create_model("hspan-light", scale=2).eval().to(memory_format=torch.channels_last)
cost = network_cost(network, precision)
run = in_precision(network, torch.device("cpu"), precision)
image = torch.rand(1, 3, size, size)
with torch.inference_mode():
    run(image[..., :16, :16])  # code that is loaded once belongs to no image
    before = status("VmRSS")
    run(image)
print((status("VmHWM") - before) / cost.peak(size * size))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("precision", "size"), [("fp32", 144), ("bf16", 224), ("bf16", 352)])
def test_prediction_is_what_a_process_takes(precision, size):
    """Within 15 %, on noise: the hardest input for the attention's memory.

    Here the allocator gives everything back at once. Usually it keeps some, now more, now less:
    that is what ``ALLOCATOR`` leaves room for.
    """
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, precision, str(size)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"},
    )
    assert 0.85 <= float(run.stdout) <= 1.15

import itertools
import subprocess
import sys

import pytest

from hspan.errors import UsageError
from hspan.inference import network_cost, plan
from hspan.inference.planning import PATIENCE, SHARE
from hspan.models import create_model

GB = 10**9


@pytest.fixture(scope="module")
def light():
    return network_cost(create_model("hspan-light", scale=2).eval())


def test_small_images_stay_whole(light):
    chosen = plan(light, 120, 90, scale=2, available_memory=8 * GB)
    assert (chosen.tile, chosen.tiles, chosen.window) == (0, 1, (120, 90))
    assert chosen.why == "whole image"


def test_attention_limits_the_tile_by_work(light):
    chosen = plan(light, 2000, 3000, scale=2, available_memory=64 * GB)
    assert chosen.why == "work"
    assert 96 <= chosen.tile <= 512
    smaller = plan(light, 2000, 3000, scale=2, available_memory=64 * GB, tile=96)
    assert chosen.predicted_work <= PATIENCE * smaller.predicted_work


def test_networks_without_attention_prefer_large_tiles(local):
    network = local(2, 2)
    assert plan(network, 2000, 3000, scale=2, available_memory=64 * GB).tile == 0
    chosen = plan(network, 2000, 3000, scale=2, available_memory=GB)
    assert chosen.why == "memory"
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
    assert chosen.tiles > 1000
    assert chosen.predicted_bytes < SHARE * 4 * GB


def test_a_named_tile_is_kept(light):
    chosen = plan(light, 1000, 1000, scale=2, available_memory=GB, tile=300)
    assert (chosen.tile, chosen.tiles, chosen.why) == (300, 16, "asked for")
    assert chosen.window == (250 + 2 * 20, 250 + 2 * 20)
    with pytest.raises(UsageError, match="tile must be auto"):
        plan(light, 10, 10, scale=2, tile="big")


MEASURE = """
import sys, torch
from hspan.inference.planning import ALLOCATOR, in_precision, network_cost
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
before = status("VmRSS")
with torch.inference_mode():
    run(image)
print((status("VmHWM") - before) / (ALLOCATOR * cost.peak(size * size)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("precision", "size"), [("fp32", 144), ("bf16", 224)])
def test_prediction_is_what_a_process_takes(precision, size):
    """Within 25 %, on noise: the hardest input for the attention's memory."""
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, precision, str(size)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0.75 <= float(run.stdout) <= 1.25

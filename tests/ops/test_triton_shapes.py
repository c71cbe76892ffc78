"""Tiles, pieces of channels, spans and stripes: that they cover everything, once."""

import pytest
import torch

from hspan.ops import _triton_shapes as shapes


def tiling(keys, topk=None, dtype=torch.bfloat16):
    query, key = torch.empty(1, 1, 96, dtype=dtype), torch.empty(1, keys, 96, dtype=dtype)
    return shapes.tiling_of(query, key, key, topk)


@pytest.mark.parametrize(
    ("count", "pieces"), [(1, (16, 0)), (24, (32, 0)), (96, (64, 32)), (192, (128, 64))]
)
def test_pieces_pad_little(count, pieces):
    contraction = shapes.contraction(count, torch.bfloat16)
    assert (contraction.wide, contraction.narrow) == pieces


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_channels_are_covered(dtype):
    for count in range(1, 513):
        contraction = shapes.contraction(count, dtype)
        on_chip = contraction.wide + contraction.narrow
        assert on_chip < 2 * max(count, 16)
        assert on_chip >= count or contraction.step > 0
        parts = shapes.slices(count, dtype)
        slice_ = shapes.accumulation(count, parts)
        assert slice_.width * parts >= count > slice_.width * (parts - 1)
        assert slice_.wide + slice_.narrow >= slice_.width
        reach = slice_.width * (parts - 1) + slice_.wide + slice_.narrow
        assert slice_.masked or reach <= count


@pytest.mark.parametrize("keys", [1, 63, 64, 65, 4_097, 65_536, 262_144])
@pytest.mark.parametrize("programs", [1, 9, 256, 5_000])
def test_spans_cover_the_key_tiles(keys, programs):
    plan = tiling(keys)
    spans, span = plan.spans(programs)
    assert (spans - 1) * span < plan.tiles <= spans * span


@pytest.mark.parametrize("batch", [1, 3, 70_000])
@pytest.mark.parametrize("queries", [1, 300, 5_000])
@pytest.mark.parametrize("scratch", [4, 10_000, 2**30])
def test_stripes_cover_the_queries_and_stay_contiguous(batch, queries, scratch):
    plan = tiling(100)
    tensor = torch.empty(batch, queries, 1, dtype=torch.int8)
    covered = 0
    for b, n in plan.stripes(min(batch, 400), queries, scratch):
        part = tensor[b, n]
        assert part.is_contiguous()
        rows = part.shape[0] * part.shape[1]
        assert rows * scratch <= shapes.STRIPE_BYTES or part.shape[1] <= plan.launch.screen_queries
        covered += rows
    assert covered == min(batch, 400) * queries


def test_capacity_holds_twice_the_kept():
    assert tiling(100).capacity == tiling(10_000, 512).capacity == 1024
    assert tiling(10_000, 513).capacity == tiling(10_000, 5_000).capacity == 2048


def test_block_order_lists_squares():
    order = shapes.block_order(17 * 20, 20, torch.device("cpu"))
    assert order.sort().values.tolist() == list(range(17 * 20))
    first, partial = order[:64], order[128 : 128 + 32]  # the third square of a line is 4 wide
    assert set((first // 20).tolist()) == set((first % 20).tolist()) == set(range(8))
    assert set((partial // 20).tolist()) == set(range(8))
    assert set((partial % 20).tolist()) == {16, 17, 18, 19}


@pytest.mark.parametrize(("tokens", "width"), [(100, 0), (100, 7), (101, 10)])
def test_no_image_has_no_order(tokens, width):
    assert shapes.block_order(tokens, width, torch.device("cpu")) is None


def test_few_keys_are_not_screened_unless_truncated():
    assert not tiling(4_096).screened
    assert tiling(4_096, 7).screened
    assert tiling(4_097).screened

"""Window attention against loops, and what moved windows may see."""

import pytest
import torch

from hspan import UsageError
from hspan.modules import WindowAttention, WindowBlock, window_mask


def test_attention_is_softmax_with_a_bias_for_every_relative_position():
    torch.manual_seed(0)
    attention = WindowAttention(6, window=3, num_heads=2)
    torch.nn.init.normal_(attention.position_bias)
    x = torch.randn(2, 9, 6)
    query, key, value = attention.qkv(x).chunk(3, dim=-1)
    mixed = torch.zeros(2, 9, 6)
    for head in range(2):
        own = slice(3 * head, 3 * head + 3)
        scores = query[..., own] @ key[..., own].transpose(1, 2) / 3**0.5
        for i in range(9):
            for j in range(9):
                down, right = i // 3 - j // 3 + 2, i % 3 - j % 3 + 2
                scores[:, i, j] += attention.position_bias[5 * down + right, head]
        mixed[..., own] = scores.softmax(-1) @ value[..., own]
    torch.testing.assert_close(attention(x), attention.projection(mixed))


def test_mask_parts_what_the_shift_brings_together():
    mask = window_mask(8, 12, 4, torch.device("cpu"))
    assert mask.shape == (6, 1, 16, 16)
    assert set(mask.unique().tolist()) == {-100.0, 0.0}
    # Windows are counted row by row; only those at the bottom and right hold positions that wrap.
    assert [bool(window.any()) for window in mask] == [False, False, True, True, True, True]
    corner = mask[5, 0, 0].view(4, 4)  # what the corner window's first position may see
    assert torch.equal(corner[:2, :2], torch.zeros(2, 2))
    assert (corner == 0).sum() == 4


@pytest.mark.parametrize("shifted", [False, True])
def test_block_sees_its_window_alone(shifted):
    torch.manual_seed(0)
    block = WindowBlock(4, window=4, num_heads=2, expansion=2, shifted=shifted)
    mask = window_mask(8, 8, 4, torch.device("cpu"))
    x = torch.randn(1, 8, 8, 4)
    changed = x.clone()
    changed[0, 0, 0, 0] += 3
    moved = (block(x, mask) != block(changed, mask)).any(-1)[0]
    seen = 2 if shifted else 4  # at the edge, a moved window has half its side in the image
    assert moved[:seen, :seen].all()
    assert moved.sum() == seen**2


def test_stochastic_depth():
    torch.manual_seed(0)
    block = WindowBlock(4, window=2, num_heads=1, expansion=2, shifted=False, drop_path=0.5)
    x = torch.randn(1, 2, 2, 4).expand(64, 2, 2, 4)
    mask = window_mask(2, 2, 2, torch.device("cpu"))
    # Each image keeps both branches, one or none, each twice as strong as without dropping.
    assert len(block(x, mask).unique(dim=0)) == 4
    block.eval()
    assert len(block(x, mask).unique(dim=0)) == 1


def test_channels_are_shared_evenly():
    with pytest.raises(UsageError, match="multiple of 4 heads, got 6"):
        WindowAttention(6, window=2, num_heads=4)

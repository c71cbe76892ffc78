"""HSPA and NLA: equations, tokens, truncation at test time, randomness."""

import pytest
import torch

from hspan import HSPA, NLA, UsageError, soft_threshold


@pytest.fixture
def features():
    return torch.randn(2, 8, 7, 6, generator=torch.Generator().manual_seed(0))


def embed(block, x, patch=1):
    """φ_q, φ_k, φ_v of every patch × patch token by loops, channel-major inside a token."""
    out = []
    for embedding in (block.query, block.key, block.value):
        y = embedding(x)
        out.append(
            torch.stack(
                [
                    y[:, :, i : i + patch, j : j + patch].flatten(1)
                    for i in range(0, y.shape[2], patch)
                    for j in range(0, y.shape[3], patch)
                ],
                dim=1,
            )
        )
    return out


def test_hspa_is_equation_8(features):
    block = HSPA(8, topk=None)
    q, k, v = embed(block, features)
    mixed = soft_threshold(q @ k.transpose(1, 2)) @ v
    expected = features + 0.1 * mixed.transpose(1, 2).reshape(features.shape)
    torch.testing.assert_close(block(features), expected)


def test_nla_is_equation_6(features):
    block = NLA(8)
    q, k, v = embed(block, features)
    mixed = (q @ k.transpose(1, 2)).softmax(-1) @ v
    expected = features + 0.1 * mixed.transpose(1, 2).reshape(features.shape)
    torch.testing.assert_close(block(features), expected)


def test_patches_are_tokens():
    x = torch.randn(1, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    block = HSPA(4, topk=None, patch=2, residual_scale=1.0)
    q, k, v = embed(block, x, patch=2)
    mixed = (soft_threshold(q @ k.transpose(1, 2)) @ v).view(1, 2, 3, 4, 2, 2)
    image = mixed.permute(0, 3, 1, 4, 2, 5).reshape(1, 4, 4, 6)
    torch.testing.assert_close(block(x), x + image)


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (8, 4)])
@pytest.mark.parametrize("kind", [HSPA, NLA])
def test_any_size(kind, size, patch):
    x = torch.randn(1, 8, *size)
    assert kind(8, patch=patch)(x).shape == x.shape


def test_memory_format_changes_nothing(features):
    block = HSPA(8)
    torch.testing.assert_close(
        block(features.contiguous(memory_format=torch.channels_last)), block(features)
    )


def test_parameters():
    # φ_q and φ_k: 8·4 + 4 weights and a PReLU scalar each; φ_v: 8·8 + 8 and its scalar.
    assert sum(p.numel() for p in HSPA(8).parameters()) == 2 * (36 + 1) + 72 + 1
    # Fig. 7: two blocks of 315 at FSRCNN's 12 channels.
    assert sum(p.numel() for p in HSPA(12).parameters()) == 315


def test_topk_can_change_at_test_time(features):
    block = HSPA(8, topk=None)
    exact = block(features)
    block.topk = 2
    assert not torch.equal(block(features), exact)
    block.topk = 42  # as many as there are positions
    torch.testing.assert_close(block(features), exact)
    block.topk = 0  # Fig. 6: without HSPA
    assert block(features) is features


def test_random_selection_is_repeatable_in_eval_and_fresh_in_training(features):
    block = NLA(8, samples=5)
    block.eval()
    assert torch.equal(block(features), block(features))
    block.train()
    torch.manual_seed(0)
    assert not torch.equal(block(features), block(features))


def test_random_selection_draws_distinct_positions():
    drawn = NLA(8, samples=5)._draw(3, 40)
    assert drawn.shape == (3, 5)
    assert all(len(set(row.tolist())) == 5 for row in drawn)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (HSPA, {"reduction": 0}),
        (HSPA, {"reduction": 9}),
        (HSPA, {"topk": -1}),
        (HSPA, {"patch": 0}),
        (NLA, {"samples": 0}),
    ],
)
def test_wrong_arguments(kind, options):
    with pytest.raises(UsageError):
        kind(8, **options)

"""HAN: its two attentions."""

import torch

from hspan.models.han import ChannelSpatialAttention, LayerAttention


def test_attentions_start_as_identities():
    maps = torch.randn(2, 3, 4, 5, 6)
    assert torch.equal(LayerAttention()(maps), maps.flatten(1, 2))
    assert torch.equal(ChannelSpatialAttention()(maps[:, 0]), maps[:, 0])


def test_layer_attention_mixes_most_of_what_is_least_similar():
    attention = LayerAttention()
    torch.nn.init.ones_(attention.weight)
    maps = torch.tensor([[3.0, 0.0], [0.0, 1.0]]).view(1, 2, 2, 1, 1)
    # The first map is orthogonal to the second and 9 to itself; the second 0 and 1.
    weights = torch.tensor([[0.0, 9.0], [1.0, 0.0]]).softmax(-1)
    expected = maps.view(2, 2) + weights @ maps.view(2, 2)
    torch.testing.assert_close(attention(maps).view(2, 2), expected)


def test_layer_attention_computes_in_single_precision():
    # 40,000 products of 3·3 are more than float16 can hold.
    attention = LayerAttention()
    torch.nn.init.ones_(attention.weight)
    maps = torch.full((1, 2, 4, 100, 100), 3.0, dtype=torch.float16)
    out = attention(maps)
    assert out.dtype == torch.float16
    torch.testing.assert_close(out, torch.full_like(out, 6.0))

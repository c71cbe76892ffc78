"""Explanations against attention computed densely from what the layers were given."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from hspan import (
    InputError,
    UsageError,
    add_hspa,
    explain,
    hspa_attention,
    replace_softmax,
    soft_threshold,
)
from hspan.explanation import _explain, _layer


def dense(tokens, topk=None):
    """Weights of all queries by soft thresholding, [N, N]."""
    query, key, _ = tokens
    return soft_threshold(query[0] @ key[0].T, topk=topk)


def laid_out(weights, layer):
    return weights.view(layer.keys.rows, layer.keys.columns).numpy()


@pytest.mark.parametrize("topk", [None, 5])
def test_every_layer_of_hspan(image, topk, network, inputs_of):
    model = network("hspan", channels=8, num_modules=2, topk=topk)
    found = explain(model, image, (3, 9))
    assert [layer.path for layer in found.layers] == ["body.0.attention", "body.1.attention"]
    assert (found.scale, found.size, found.at) == (2, (14, 11), (3, 9))
    for layer in found.layers:
        module = model.get_submodule(layer.path)
        tokens = module.tokens(inputs_of(model, module, image)[0])
        weights = dense(tokens, topk)
        here = 9 * 14 + 3
        np.testing.assert_allclose(layer.weights, laid_out(weights[here], layer), atol=1e-5)
        assert layer.token == "pixel"
        assert layer.topk == topk
        assert (layer.here.x, layer.here.y, layer.here.width) == (3, 9, 1)
        assert layer.support == len(layer.sources) == int((weights[here] > 0).sum())
        assert [s.weight for s in layer.sources] == sorted(
            (s.weight for s in layer.sources), reverse=True
        )
        assert sum(s.weight for s in layer.sources) == pytest.approx(1, abs=1e-5)
        np.testing.assert_array_equal(layer.support_map, (weights > 0).sum(1).view(11, 14).numpy())
        mixed = hspa_attention(*tokens, topk=topk)[0, here]
        at_sources = torch.stack(
            [tokens[2][0, int(s.place.y) * 14 + int(s.place.x)] for s in layer.sources]
        )
        shares = torch.tensor([s.weight for s in layer.sources])
        torch.testing.assert_close(shares @ at_sources, mixed, atol=1e-5, rtol=1e-4)


def test_distances(image, monkeypatch, network, inputs_of):
    monkeypatch.setattr(_layer, "_QUERIES", 50)  # several parts, the last one shorter
    model = network("hspan", channels=8, num_modules=1, topk=None)
    layer = explain(model, image, (3, 9)).layers[0]
    module = model.get_submodule(layer.path)
    weights = dense(module.tokens(inputs_of(model, module, image)[0]))
    y, x = np.divmod(np.arange(11 * 14), 14)
    far = np.hypot(x[:, None] - x, y[:, None] - y)
    expected = (weights.numpy() * far).sum(1).reshape(11, 14)
    np.testing.assert_allclose(layer.distance_map, expected, atol=1e-3)
    assert layer.sparsity.mean_distance == pytest.approx(expected.mean(), rel=1e-4)
    assert layer.sparsity.mean == pytest.approx(float((weights > 0).sum(1).double().mean()))
    assert layer.sparsity.zeros == pytest.approx(float((weights == 0).double().mean()))
    for source in layer.sources:
        assert source.distance == pytest.approx(np.hypot(source.place.x - 3, source.place.y - 9))


def test_patches_are_named_as_such(image, network, inputs_of):
    model = network("hspan-light", channels=8, num_blocks=2)
    layer = explain(model, image, (13, 10)).layers[0]
    assert layer.token == "patch of 4×4 pixels"
    assert layer.keys_total == 3 * 4
    # The last patch of both directions is cut off by the border.
    assert vars(layer.here) == {"x": 12, "y": 8, "width": 2, "height": 3}
    module = model.get_submodule(layer.path)
    weights = dense(module.tokens(inputs_of(model, module, image)[0]))[11]
    np.testing.assert_allclose(layer.weights, laid_out(weights, layer), atol=1e-5)
    assert {(s.place.x % 4, s.place.y % 4) for s in layer.sources} == {(0, 0)}


def test_softmax_beside_it(image, network, inputs_of):
    model = network("hspan", channels=8, num_modules=1, topk=None)
    layer = explain(model, image, (0, 0), maps=False, switch_off=False).layers[0]
    module = model.get_submodule(layer.path)
    query, key, _ = module.tokens(inputs_of(model, module, image)[0])
    softmax = (query[0, 0] @ key[0].T).softmax(0)
    np.testing.assert_allclose(layer.softmax_weights, laid_out(softmax, layer), atol=1e-6)
    on_support = float(softmax[torch.from_numpy(layer.weights.flatten() > 0)].sum())
    assert layer.softmax_on_support == pytest.approx(on_support, rel=1e-4)
    ordered = softmax.sort(descending=True).values
    assert float(ordered[: layer.softmax_for_90].sum()) >= 0.9
    assert float(ordered[: layer.softmax_for_90 - 1].sum()) < 0.9
    assert layer.support_map is None
    assert layer.sparsity is None
    assert layer.switched_off is None


def test_switched_off_is_the_network_without_it(image, network):
    model = network("hspan", channels=8, num_modules=2)
    found = explain(model, image, (3, 9))
    x = torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0).float() / 255
    module = model.get_submodule("body.1.attention")
    with torch.no_grad():
        usual = model(x)
        module.topk = 0
        other = model(x)
    change = (usual.clamp(0, 1) - other.clamp(0, 1)).abs().mean(1)[0].numpy() * 255
    off = found.layers[1].switched_off
    np.testing.assert_allclose(off.difference, change, atol=1e-3)
    assert off.here == pytest.approx(change[18:20, 6:8].mean(), abs=1e-3)
    assert off.largest == pytest.approx(change.max(), abs=1e-3)
    assert change.max() > 0
    expected = (usual[0].clamp(0, 1) * 255 + 0.5).floor().permute(1, 2, 0).numpy()
    assert np.abs(found.result - expected).max() <= 1
    assert "forward" not in module.__dict__


def test_what_it_adds(image, network, inputs_of):
    model = network("hspan", channels=8, num_modules=1)
    layer = explain(model, image, (3, 9), switch_off=False).layers[0]
    module = model.get_submodule(layer.path)
    before = inputs_of(model, module, image)[0]
    with torch.no_grad():
        after = module(before)
    ratio = (after - before)[0, :, 9, 3].norm() / before[0, :, 9, 3].norm()
    assert layer.added == pytest.approx(float(ratio), rel=1e-4)


def test_softmax_layer_and_its_replacement(image, network):
    model = network("hspan", channels=8, num_modules=1, attention="nla")
    layer = explain(model, image, (5, 5)).layers[0]
    assert layer.weighting == "softmax"
    assert layer.support == layer.keys_total == 11 * 14
    assert layer.support_map is None
    assert layer.weights.sum() == pytest.approx(1, abs=1e-5)
    replace_softmax(model)
    sparse = explain(model, image, (5, 5)).layers[0]
    assert sparse.weighting == "soft-threshold"
    assert sparse.support == layer.soft_threshold_support < layer.support
    np.testing.assert_allclose(sparse.weights, layer.soft_threshold_weights, atol=1e-6)


def test_many_sources_of_softmax_are_listed_in_part(network, noise):
    model = network("hspan", channels=8, num_modules=1, attention="nla")
    layer = explain(model, noise(20, 20), (5, 5), switch_off=False).layers[0]
    assert layer.support == 400
    assert len(layer.sources) == 256


def test_drawn_keys(image, network, inputs_of):
    model = network("hspan", channels=8, num_modules=1, attention="nla-random", samples=20)
    layer = explain(model, image, (5, 5), switch_off=False).layers[0]
    module = model.get_submodule(layer.path)
    drawn = module._draw(1, 154)[0]
    query, key, _ = module.tokens(inputs_of(model, module, image)[0])
    expected = torch.zeros(154)
    expected[drawn] = (query[0, 5 * 14 + 5] @ key[0, drawn].T).softmax(0)
    np.testing.assert_allclose(layer.weights, laid_out(expected, layer), atol=1e-6)
    assert layer.keys_total == 20
    assert len(layer.sources) == 20


def test_inserted_block(image, network):
    model = network("edsr-baseline", channels=8, num_blocks=3)
    report = add_hspa(model, topk=None)
    found = explain(model, image, (2, 3))
    assert [layer.path for layer in found.layers] == [f"{report.blocks[0].path}.inserted_hspa"]
    assert found.layers[0].module == "InsertedHSPA"
    assert found.layers[0].switched_off.largest > 0


@pytest.mark.parametrize("weighting", ["softmax", "soft-threshold"])
def test_values_that_are_shared_out(image, weighting, network, inputs_of):
    """RNAN: rows belong to keys, so what one position gets is a column."""
    model = network("rnan", channels=8, num_blocks=2)
    if weighting == "soft-threshold":
        replace_softmax(model)
    layer = explain(model, image, (4, 6), switch_off=False).layers[0]
    module = model.get_submodule(layer.path)
    x = inputs_of(model, module, image)[0]
    query, key = (m(x).flatten(2)[0].T for m in (module.query, module.key))
    scores = (query @ key.T).double()
    rows = scores.softmax(0) if weighting == "softmax" else soft_threshold(scores, dim=0)
    here = layer.queries.token_at(4, 6)
    np.testing.assert_allclose(layer.weights, laid_out(rows[here], layer), atol=1e-4)
    assert layer.support_map is None


def test_quarters_of_san(network, noise, inputs_of):
    image = noise(33, 37)
    model = network("san", channels=8, num_groups=1, num_blocks=1, reduction=2)
    found = explain(model, image, (30, 5), switch_off=False)
    # Applied before and behind the body; the pixel lies in the quarter on the upper right.
    assert [layer.call for layer in found.layers] == [1, 5]
    assert found.layers[1].name == "non_local, application 6"
    for layer, x in zip(found.layers, inputs_of(model, model.non_local, image)[1::4], strict=True):
        assert x.shape[-2:] == (16, 19)
        assert (layer.here.x, layer.here.y) == (30, 5)
        query = model.non_local.query(x)[0, :, 5, 30 - 18]
        key = model.non_local._pooled(model.non_local.key(x))[0]
        expected = (key @ query).softmax(0).detach()
        np.testing.assert_allclose(layer.weights, laid_out(expected, layer), atol=1e-5)
        assert min(s.place.x for s in layer.sources) == 18


def test_attention_that_is_left_out(image, network, noise):
    model = network("csnln", channels=8, depth=1)
    found = explain(model, noise(12, 12), (4, 6), switch_off=False)
    assert {layer.module for layer in found.layers} == {"InScaleAttention"}
    assert found.layers[0].added is None
    assert any("CrossScaleAttention" in why for why in found.left_out.values())
    with pytest.raises(UsageError, match=r"none that can be explained .*BucketAttention"):
        explain(
            network("nlsn", channels=8, num_blocks=1, interval=1, chunk=36, rounds=1),
            image,
            (4, 6),
        )


def test_attention_alone_is_switched_off_to_nothing(network, noise):
    model = network("csnln", channels=8, depth=1)
    found = explain(model, noise(12, 12), (4, 6))
    assert found.layers[0].switched_off.largest > 0


def test_switched_off_by_its_setting(image, network):
    model = network("hspan", channels=8, num_modules=2)
    model.body[0].attention.topk = 0
    found = explain(model, image, (1, 1), switch_off=False)
    assert [layer.path for layer in found.layers] == ["body.1.attention"]
    assert found.left_out == {"body.0.attention": "it is switched off (topk = 0)"}


def test_chosen_layers(image, network):
    model = network("hspan", channels=8, num_modules=3)
    calls = []
    found = explain(
        model, image, (1, 1), layers="body.1.*", progress=lambda *done: calls.append(done)
    )
    assert [layer.path for layer in found.layers] == ["body.1.attention"]
    assert calls == [(1, 2), (2, 2)]
    with pytest.raises(UsageError, match=r"isn't attention; attention is in body.0.attention"):
        explain(model, image, (1, 1), layers="head")
    with pytest.raises(UsageError, match="no module 'bodi'"):
        explain(model, image, (1, 1), layers="bodi")


@pytest.mark.parametrize("at", [(14, 0), (0, 11), (-1, 0), (0.5, 0)])
def test_outside_of_the_image(image, at, network):
    model = network("hspan", channels=8, num_modules=1)
    with pytest.raises(UsageError, match=r"lies outside the image of 14×11 pixels"):
        explain(model, image, at)


def test_no_attention(image, network):
    with pytest.raises(UsageError, match=r"EDSR has no attention that can be explained"):
        explain(network("edsr", channels=8, num_blocks=1), image, (0, 0))


def test_one_image_at_a_time(network):
    model = network("hspan", channels=8, num_modules=1)
    with pytest.raises(UsageError, match="one image at a time, got a batch of 2"):
        explain(model, torch.rand(2, 3, 8, 8), (0, 0))
    with pytest.raises(InputError, match="aren't finite"):
        explain(model, torch.full((3, 8, 8), torch.nan), (0, 0))


def test_damaged_weights(image, network):
    model = network("hspan", channels=8, num_modules=1)
    model.head.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match=r"body.0.attention aren't finite"):
        explain(model, image, (0, 0))


def test_too_large_for_the_memory(image, monkeypatch, network):
    model = network("hspan", channels=8, num_modules=1)
    usual = _explain.plan

    def crowded(*arguments, **options):
        return usual(*arguments, available_memory=1000, **options)

    monkeypatch.setattr(_explain, "plan", crowded)
    with pytest.raises(InputError, match=r"14×11 pixels need about .* cut out the part"):
        explain(model, image, (0, 0))


def test_modes_are_put_back(image, network):
    model = network("hspan", channels=8, num_modules=1).train()
    model.head.eval()
    explain(model, image, (0, 0), switch_off=False)
    assert model.training
    assert not model.head.training


def test_alpha_and_depth(network, noise):
    """Transparent colours count as little as they do for an Upscaler."""
    model = network("hspan", channels=8, num_modules=1)
    grey = noise(9, 9, channels=2, dtype=np.uint16)
    alpha = grey[..., 1:].astype(np.float64) / 65535
    flat = np.repeat(grey[..., :1] / 65535 * alpha, 3, axis=2).astype(np.float32)
    first, second = (explain(model, i, (4, 4), switch_off=False) for i in (grey, flat))
    np.testing.assert_allclose(first.layers[0].weights, second.layers[0].weights, atol=1e-4)


def test_json(image, network):
    model = network("hspan-light", channels=8, num_blocks=2)
    found = explain(model, image, (3, 9))
    values = json.loads(json.dumps(found.as_dict()))
    assert list(values) == ["model", "scale", "size", "at", "seconds", "layers", "left_out"]
    layer = values["layers"][0]
    assert layer["here"] == [0, 8, 4, 3]
    assert layer["token"] == 4
    assert len(layer["sources"]) == layer["support"]
    assert set(layer["sources"][0]) == {"box", "weight", "softmax_weight", "distance"}
    assert "maps" not in layer
    maps = json.loads(json.dumps(found.as_dict(maps=True)))["layers"][0]["maps"]
    assert np.array(maps["difference"]).shape == (22, 28)
    assert maps["support_map"] == found.layers[0].support_map.tolist()


class Twice(nn.Module):
    """Somebody's own network: attention on features of half the size, applied twice."""

    def __init__(self, attention):
        super().__init__()
        self.down = nn.Conv2d(3, 4, 2, stride=2)
        self.attention = attention
        self.up = nn.ConvTranspose2d(4, 3, 4, stride=4)

    def forward(self, x):
        return self.up(self.attention(self.attention(self.down(x))))


def test_own_network_with_a_shared_layer(image, noise):
    from hspan import HSPA

    torch.manual_seed(0)
    found = explain(Twice(HSPA(4)).eval(), noise(12, 16), (15, 3))
    assert [layer.call for layer in found.layers] == [0, 1]
    for layer in found.layers:
        assert layer.token == "patch of 2×2 pixels"
        assert vars(layer.here) == {"x": 14, "y": 2, "width": 2, "height": 2}
    assert found.layers[0].switched_off is found.layers[1].switched_off

"""Official HSPAN checkpoints compute what the released program computes.

The program is written down here a second time, straight from its behaviour, on its own key names
and with the sort-based definition of soft thresholding on the dense matrix of scores.
"""

import pytest
import torch
from torch.nn import functional as F

from hspan.errors import UsageError, WeightsError
from hspan.weights import load_model

MEAN = torch.tensor([0.4488, 0.4371, 0.4040])
CHANNELS, BLOCKS = 8, 2


def official_weights(scale, value_range, modules=2, attending=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weights = {"a": torch.zeros(1)}

    def conv(key, inputs, outputs, side):
        bound = 1.7 / (inputs * side * side) ** 0.5
        shape = (outputs, inputs, side, side)
        weights[f"{key}.weight"] = (torch.rand(shape, generator=generator) * 2 - 1) * bound
        weights[f"{key}.bias"] = (torch.rand(outputs, generator=generator) - 0.5) * bound

    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        weights[f"{name}.weight"] = torch.eye(3).view(3, 3, 1, 1)
        weights[f"{name}.bias"] = sign * value_range * MEAN
    conv("head.0", 3, CHANNELS, 3)
    for m in range(modules):
        for b in range(BLOCKS):
            conv(f"body.{m}.body.{b}.body.0", CHANNELS, CHANNELS, 3)
            conv(f"body.{m}.body.{b}.body.2", CHANNELS, CHANNELS, 3)
        place = BLOCKS
        if attending is None or m in attending:
            for name, outputs in (("match1", 4), ("match2", 4), ("assembly", CHANNELS)):
                conv(f"body.{m}.body.{place}.conv_{name}.0", CHANNELS, outputs, 1)
                prelu = torch.rand(1, generator=generator)
                weights[f"body.{m}.body.{place}.conv_{name}.1.weight"] = prelu
            place += 1
        conv(f"body.{m}.body.{place}", CHANNELS, CHANNELS, 3)
    conv(f"body.{modules}", CHANNELS, CHANNELS, 3)
    for i, r in enumerate({2: [2], 3: [3], 4: [2, 2]}[scale]):
        conv(f"tail.0.{2 * i}", CHANNELS, r * r * CHANNELS, 3)
    conv("tail.1", CHANNELS, 3, 3)
    return weights


def sparsemax(scores):
    ordered = scores.sort(dim=-1, descending=True).values
    total = ordered.cumsum(-1)
    rank = torch.arange(1, scores.shape[-1] + 1)
    support = (rank * ordered + 1 > total).sum(-1, keepdim=True)
    kappa = (total.gather(-1, support - 1) - 1) / support
    return (scores - kappa).clamp(min=0)


def official_output(weights, x, value_range, residual_scale=0.1):
    """What the program makes of an image in [0, value_range]."""

    def conv(key, t):
        weight = weights[f"{key}.weight"]
        return F.conv2d(t, weight, weights[f"{key}.bias"], padding=weight.shape[-1] // 2)

    def embed(key, t):
        return F.prelu(conv(f"{key}.0", t), weights[f"{key}.1.weight"]).flatten(2)

    shallow = conv("head.0", conv("sub_mean", x))
    deep, m = shallow, 0
    while f"body.{m}.weight" not in weights:
        inner, i = deep, 0
        while f"body.{m}.body.{i}.body.0.weight" in weights:
            first = F.relu(conv(f"body.{m}.body.{i}.body.0", inner))
            inner, i = inner + conv(f"body.{m}.body.{i}.body.2", first), i + 1
        if f"body.{m}.body.{i}.conv_match1.0.weight" in weights:
            place = f"body.{m}.body.{i}.conv"
            q, k, v = (embed(f"{place}_{n}", inner) for n in ("match1", "match2", "assembly"))
            mixed = v @ sparsemax(q.transpose(1, 2) @ k).transpose(1, 2)
            inner, i = inner + residual_scale * mixed.view_as(inner), i + 1
        deep, m = deep + residual_scale * conv(f"body.{m}.body.{i}", inner), m + 1
    out = conv(f"body.{m}", deep) + shallow
    i = 0
    while f"tail.0.{i}.weight" in weights:
        enlarged = conv(f"tail.0.{i}", out)
        out = F.pixel_shuffle(enlarged, round((enlarged.shape[1] / out.shape[1]) ** 0.5))
        i += 2
    return conv("add_mean", conv("tail.1", out))


def saved(tmp_path, weights):
    path = tmp_path / "official.pt"
    torch.save(weights, path)
    return path


def image(seed=1):
    return torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("value_range", [1, 255])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_computes_what_the_program_computes(tmp_path, scale, value_range):
    weights = official_weights(scale, value_range)
    model = load_model(saved(tmp_path, weights), device="cpu")
    expected = official_output(weights, image() * value_range, value_range) / value_range
    with torch.no_grad():
        output = model(image())
    assert output.shape == (2, 3, 9 * scale, 7 * scale)
    # The weights are random: the output is no image, so errors are relative to its range.
    assert (output - expected).abs().max() <= 1e-4 * (expected.max() - expected.min())


def test_configuration_is_read_from_the_weights(tmp_path):
    config = load_model(saved(tmp_path, official_weights(4, 1, modules=3))).config
    assert (config.scale, config.channels, config.num_modules, config.num_blocks) == (4, 8, 3, 2)
    assert (config.reduction, config.topk, config.attention_modules) == (2, None, None)
    assert config.residual_scale == 0.1


def test_one_attention_in_the_middle(tmp_path):
    weights = official_weights(2, 1, modules=3, attending={1})
    model = load_model(saved(tmp_path, weights), name="hspan-s")
    assert model.config.attention_modules == (1,)
    with torch.no_grad():
        assert torch.allclose(model(image()), official_output(weights, image(), 1), atol=1e-5)


def test_residual_scale_comes_from_the_caller(tmp_path):
    weights = official_weights(2, 1)
    path = saved(tmp_path, weights)
    with torch.no_grad():
        default = load_model(path)(image())
        model = load_model(path, residual_scale=0.5)
        output = model(image())
    expected = official_output(weights, image(), 1, residual_scale=0.5)
    assert torch.allclose(output, expected, atol=1e-5)
    assert not torch.allclose(output, default, atol=1e-3)


def test_wrappers_and_prefixes(tmp_path):
    weights = official_weights(2, 1)
    parallel = {f"module.{key}": value for key, value in weights.items()}
    wrapped = saved(tmp_path, {"epoch": 3, "params": parallel})
    with torch.no_grad():
        output = load_model(wrapped)(image())
    assert torch.allclose(output, official_output(weights, image(), 1), atol=1e-5)


def test_scale_that_contradicts_the_weights(tmp_path):
    path = saved(tmp_path, official_weights(2, 1))
    with pytest.raises(UsageError, match="scale 2, not 4"):
        load_model(path, scale=4)
    with pytest.raises(UsageError, match="network hspan, not hspan-light"):
        load_model(path, name="hspan-light")


def test_another_mean_is_refused(tmp_path):
    weights = official_weights(2, 1)
    weights["sub_mean.bias"] = torch.tensor([-0.5, -0.5, -0.5])
    with pytest.raises(WeightsError, match=r"sub_mean\.bias"):
        load_model(saved(tmp_path, weights))


@pytest.mark.parametrize(
    "key",
    [
        "head.0.weight",
        "sub_mean.bias",
        "tail.0.0.weight",
        "body.1.body.2.conv_match1.1.weight",
        "body.0.body.3.bias",
    ],
)
def test_a_missing_weight_is_named(tmp_path, key):
    weights = official_weights(2, 255)
    del weights[key]
    ours = {
        "body.1.body.2.conv_match1.1.weight": r"body\.1\.attention\.query\.1\.weight",
        "body.0.body.3.bias": r"body\.0\.conv\.bias",
    }
    with pytest.raises(WeightsError, match=ours.get(key, key.replace(".", r"\."))):
        load_model(saved(tmp_path, weights))


def test_an_unknown_weight_is_named(tmp_path):
    weights = official_weights(2, 1) | {"body.0.gate.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"1 unexpected \(body\.0\.gate\.weight\)"):
        load_model(saved(tmp_path, weights))


def test_a_weight_that_two_names_claim(tmp_path):
    weights = official_weights(2, 1)
    weights["body.0.body.7.bias"] = weights["body.0.body.3.bias"]
    with pytest.raises(WeightsError, match="two last convolutions"):
        load_model(saved(tmp_path, weights))

import numpy as np
import pytest
import torch
from PIL import Image

from hspan import attention_support
from hspan.errors import InputError, UsageError
from hspan.evaluation.bench_attention import draw_features
from hspan.evaluation.bench_attention._features import check_features, fit_scale


def mean_support(features):
    offsets, _, _ = attention_support(features.query, features.key)
    return int(offsets[0, -1]) / features.query.shape[1]


@pytest.mark.parametrize("kind", ["photo", "gaussian"])
@pytest.mark.parametrize(("channels", "support"), [(192, 8), (64, 32), (64, 128)])
def test_the_support_is_the_one_asked_for(kind, channels, support):
    features = draw_features(kind, 2304, channels=channels, support=support)
    assert features.query.shape == features.key.shape == (1, 2304, channels // 2)
    assert features.value.shape == (1, 2304, channels)
    assert mean_support(features) == pytest.approx(support, rel=0.15)
    assert features.support == pytest.approx(mean_support(features), rel=0.05)
    assert features.width == (48 if kind == "photo" else None)


def test_equal_seeds_give_equal_features():
    first, again = (draw_features("photo", 256, channels=16) for _ in range(2))
    other = draw_features("photo", 256, channels=16, seed=1)
    for part in ("query", "key", "value"):
        assert torch.equal(getattr(first, part), getattr(again, part))
        assert not torch.equal(getattr(first, part), getattr(other, part))
    assert not torch.equal(first.query, first.key)


def test_any_number_of_tokens_fits_a_square():
    features = draw_features("photo", 107, channels=16, support=4)
    assert (features.query.shape[1], features.width) == (107, 11)
    assert "11×11" in features.source
    assert "bundled" in features.source


def test_the_networks_own_features():
    features = draw_features("network", 144)
    assert features.query.shape == (1, 144, 480)  # half of 60 channels, 4×4 positions
    assert features.value.shape == (1, 144, 960)
    assert (features.scale, features.width) == (1.0, 12)
    assert features.support == pytest.approx(mean_support(features))
    assert features.source == "hspan-light ×2 on the bundled photograph, middle 48×48"


def test_photographs(tmp_path, monkeypatch):
    folder = tmp_path / "benchmarks" / "Urban100" / "HR"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, shape in (("a", (9, 40, 3)), ("b", (20, 24, 3)), ("c", (30, 30))):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / f"{name}.png")
    monkeypatch.setenv("HSPAN_DATA", str(tmp_path))
    options = {"channels": 8, "support": 4}
    assert draw_features("photo", 400, **options).source == "b.png, middle 20×20"
    assert "bundled" in draw_features("photo", 1600, **options).source
    grey = draw_features("photo", 400, image=folder / "c.png", **options)
    assert grey.source == "c.png, middle 20×20"
    with pytest.raises(InputError, match=r"c\.png is smaller than 31×31 pixels"):
        draw_features("photo", 961, image=folder / "c.png", **options)
    with pytest.raises(InputError, match="no photograph at hand has 260×260 pixels"):
        draw_features("network", 65**2)


def test_features_that_no_scale_makes_sparse():
    """Equal keys share every query's weight, whatever the scale."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 50, 3, generator=generator)
    with pytest.raises(InputError, match="no scale of these 50 tokens gives a mean support of 5"):
        fit_scale(query, torch.ones(1, 50, 3), 5.0, generator)


def test_equal_keys_enter_the_support_together():
    generator = torch.Generator().manual_seed(0)
    query = torch.ones(1, 80, 1)
    key = torch.linspace(0, 1, 10).repeat_interleave(8).view(1, 80, 1)  # supports of 8, 16, 24...
    scale = fit_scale(query, key, 31.0, generator)
    offsets, _, _ = attention_support(query * scale, key)
    assert int(offsets[0, -1]) == 80 * 32
    with pytest.raises(InputError, match="no scale of these 80 tokens"):
        fit_scale(query, key, 28.0, generator)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("photos", 100, 64, 8), "features are one of photo, network, gaussian"),
        (("photo", 1, 64, 1), "at least 2"),
        (("photo", 100, 63, 8), "positive even"),
        (("photo", 100, 0, 8), "positive even"),
        (("gaussian", 100, 64, 100), r"must lie in \[1, 100\)"),
        (("photo", 100, 64, 0.5), r"must lie in \[1, 100\)"),
        (("photo", 100, 64, float("nan")), r"must lie in \[1, 100\)"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(UsageError, match=message):
        check_features(*settings)

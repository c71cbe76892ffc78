"""Figures: what they say and show, not where the ink is."""

import re

import numpy as np
import pytest
from PIL import Image

from hspan import InputError, UsageError
from hspan.explanation import check_figure, draw_explanation, explain
from hspan.explanation._draw import _in_full, _overview

pytest.importorskip("matplotlib")
from matplotlib.text import Text


@pytest.fixture
def patches(network, image):
    return explain(network("hspan-light", channels=8, num_blocks=2), image, (3, 9))


def words(figure):
    return " ".join(" ".join(t.get_text().split()) for t in figure.findobj(Text))


def test_says_what_was_found(patches):
    text = words(_in_full(patches, "noise.png"))
    layer = patches.layers[0]
    assert "Where did pixel (3, 9) of noise.png come from?" in text
    assert "HSPANLight ×2, attention layer body.1" in text
    assert f"Dots: the {layer.support} patches" in text or layer.support == 1
    assert f"The other {12 - layer.support} take no part in it." in text
    assert "each square is a patch of 4×4 pixels" in text
    assert f"{layer.softmax_for_90:,} of 12 are needed for 90 % of it" in text
    assert f"is built from {layer.sparsity.mean:,.0f} of 12 on average" in text
    assert f"{layer.switched_off.largest:.2g} at most" in text


def test_shares_add_up(patches):
    text = words(_in_full(patches, ""))
    shares = [float(s) for s in re.findall(r"[=+] ([0-9.]+) % of", text)]
    assert len(shares) >= 2
    assert sum(shares) == pytest.approx(100, abs=1)


def test_maps_show_what_was_measured(patches):
    images = [
        np.asarray(image.get_array())
        for axes in _in_full(patches, "").findobj(lambda a: hasattr(a, "get_images"))
        for image in axes.get_images()
    ]
    layer = patches.layers[0]
    for expected in (layer.support_map, layer.distance_map, layer.switched_off.difference):
        assert any(
            shown.shape == expected.shape and np.allclose(shown, expected) for shown in images
        )


def test_softmax_layer(network, image):
    model = network("hspan", channels=8, num_modules=1, attention="nla")
    text = words(_in_full(explain(model, image, (3, 9)), ""))
    assert "All 154 take part in it." in text
    assert "NLA, as used here" in text
    assert "HSPA would keep few" in text
    assert "How many does each place use?" not in text


def test_one_row_per_layer(network, image):
    model = network("hspan", channels=8, num_modules=2)
    found = explain(model, image, (3, 9))
    text = words(_overview(found, ""))
    for layer in found.layers:
        assert f"{layer.path} (HSPA, {layer.support} of 154 keys" in text


def test_file(patches, tmp_path):
    draw_explanation(patches, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 1440


def test_files_that_cannot_be(patches, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"written as \.png, \.svg, \.pdf"):
        check_figure(tmp_path / "a.jpg")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(InputError, match=r"can't be written: No space left"):
        draw_explanation(patches, tmp_path / "a.png")

"""Settings of the networks from other papers that can't be."""

import pytest

from hspan import UsageError, create_model


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("edsr", {"scale": 8}, "2, 3 or 4, got 8"),
        ("edsr", {"num_blocks": 0}, "num_blocks"),
        ("rcan", {"scale": 5}, "2, 3, 4 or 8"),
        ("rcan", {"num_groups": 0}, "num_groups"),
        ("han", {"num_blocks": 0}, "num_blocks"),
        ("oisr-rk3", {"method": "euler"}, "rk2 or lf or rk3, got 'euler'"),
        ("oisr-rk3", {"scale": 8}, "2, 3 or 4"),
        ("oisr-rk3", {"channels": 0}, "channels"),
        ("rdn", {"scale": 1}, "2, 3 or 4"),
        ("rdn", {"num_layers": 0}, "num_layers"),
        ("rdn", {"rgb_range": 0}, "rgb_range must be at least 1"),
        ("drln", {"scale": 6}, "2, 3, 4 or 8"),
        ("drln", {"cascades": (3, 1)}, "the second at least 2"),
        ("drln", {"cascades": ()}, "cascades"),
        ("drln", {"reduction": 65}, r"\[1, 64\]"),
        ("drln", {"rgb_range": -1}, "rgb_range must be at least 1"),
        ("dbpn", {"scale": 5}, "2, 3, 4 or 8"),
        ("dbpn", {"num_stages": 1}, "num_stages must be at least 2"),
        ("dbpn", {"num_passes": 0}, "num_passes"),
        ("swinir", {"scale": 5}, "2, 3, 4 or 8"),
        ("swinir", {"depths": (2, 0)}, "depths"),
        ("swinir", {"window": 1}, "window"),
        ("swinir", {"upsampler": "nearest"}, "'nearest'"),
        ("swinir", {"drop_path": 1}, r"\[0, 1\)"),
        ("swinir", {"padding": "zero"}, "reflect or symmetric, got 'zero'"),
    ],
)
def test_refused(name, options, match):
    with pytest.raises(UsageError, match=match):
        create_model(name, **options)


SMALLEST = {
    "rcan": {"channels": 2, "num_groups": 1, "num_blocks": 1, "reduction": 1},
    "han": {"channels": 2, "num_groups": 1, "num_blocks": 1, "reduction": 1},
    "drln": {"channels": 2, "cascades": (1,), "reduction": 1},
    "dbpn": {"channels": 2, "shallow_channels": 2, "num_stages": 2},
    "swinir": {"channels": 2, "depths": (1,), "num_heads": 1},
}


@pytest.mark.parametrize("name", SMALLEST)
def test_eight_times(name):
    config = create_model(name, scale=8, **SMALLEST[name]).config
    assert config.scale == 8

"""The score while training is the score of the final protocol."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hspan.data import find_pairs, load_pair
from hspan.errors import InputError
from hspan.metrics import psnr
from hspan.training import ValidationSet
from hspan.training._validation import to_bytes


class Nearest(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x):
        assert x.dtype == torch.float32
        assert not torch.is_autocast_enabled("cpu")
        assert not self.training
        return F.interpolate(x * self.gain, scale_factor=2)


def test_score_is_mean_psnr(images):
    expected = []
    for pair in find_pairs(images, 2):
        hr, lr = load_pair(pair, 2)
        expected.append(psnr(lr.repeat(2, axis=0).repeat(2, axis=1), hr, 2))
    network = Nearest().train()
    with torch.autocast("cpu", torch.bfloat16):
        assert ValidationSet(images, 2, "BI").score(network) == pytest.approx(np.mean(expected))
    assert network.training


def test_rounds_and_clips():
    image = torch.tensor([-1.0, 0.4999 / 255, 0.5001 / 255, 2.0]).expand(3, 1, 4)
    assert to_bytes(image)[0, :, 0].tolist() == [0, 0, 1, 255]


def test_a_damaged_image_is_an_error(tmp_path):
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(InputError, match=r"a\.png"):
        ValidationSet(tmp_path, 2, "BI")

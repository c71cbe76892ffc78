"""Patches are aligned, turned in all eight ways, and a function of seed and step alone."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from hspan.data import PatchSampler, build_cache
from hspan.data._sampler import detail, turn
from hspan.errors import InputError, UsageError


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Images whose LR pixels say where they are: row, column, image; HR repeats LR."""
    folder = tmp_path_factory.mktemp("coordinates")
    (folder / "HR").mkdir()
    (folder / "LR_bicubic/X3").mkdir(parents=True)
    for i, (height, width) in enumerate([(20, 30), (24, 50), (7, 60)]):
        row, column = np.mgrid[:height, :width].astype(np.uint8)
        lr = np.stack([row, column, np.full_like(row, i)], axis=-1)
        Image.fromarray(lr).save(folder / f"LR_bicubic/X3/{i}x3.png")
        Image.fromarray(lr.repeat(3, axis=0).repeat(3, axis=1)).save(folder / f"HR/{i}.png")
    return build_cache(folder, 3, cache_folder=folder / "cache")


@given(seed=st.integers(0, 2**40), step=st.integers(0, 10**7))
def test_patches_are_aligned(cache, seed, step):
    lr, hr = PatchSampler(cache, batch_size=4, patch=8, seed=seed).batch(step)
    assert lr.shape == (4, 3, 8, 8)
    assert hr.shape == (4, 3, 24, 24)
    assert lr.dtype == hr.dtype == torch.uint8
    assert lr.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(F.interpolate(lr.float(), scale_factor=3), hr.float())
    row, column, image = (lr[:, i].flatten(1).int() for i in range(3))
    assert (image == image[:, :1]).all()
    for axis in (row, column):  # every row and column of the patch once, without gaps
        assert all(len(set(values.tolist())) == 8 for values in axis)
        assert ((axis.amax(1) - axis.amin(1)) == 7).all()


def test_depends_on_seed_and_step_alone(cache):
    first = PatchSampler(cache, batch_size=4, patch=8, seed=1)
    expected = first.batch(7)
    for step in (9, 3, 7):
        again = first.batch(step)
    fresh = PatchSampler(cache, batch_size=4, patch=8, seed=1).batch(7)
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(expected, fresh, strict=True))
    assert not torch.equal(expected[0], first.batch(8)[0])
    other = PatchSampler(cache, batch_size=4, patch=8, seed=2)
    assert not torch.equal(expected[0], other.batch(7)[0])


def test_sequence_is_the_same_in_every_version(cache):
    # From this code when it was written: a change would make resumed runs see other batches.
    sampler = PatchSampler(cache, batch_size=8, patch=8, seed=5)
    digest = hashlib.sha256()
    for step in range(4):
        digest.update(sampler.batch(step)[0].contiguous().numpy().tobytes())
    assert digest.hexdigest()[:16] == "3bc15a39fd6f29f8"


def test_devices_share_a_batch(cache):
    whole = PatchSampler(cache, batch_size=6, patch=8).batch(3)
    shares = [
        PatchSampler(cache, batch_size=6, patch=8, rank=r, world_size=3).batch(3) for r in range(3)
    ]
    for i in range(2):
        assert torch.equal(torch.cat([share[i] for share in shares]), whole[i])


def test_the_most_detailed_of_some_windows(tmp_path):
    """One half of the image is flat, the other noise: of four windows, most often one meets it."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    noise[:, :32] = 128
    Image.fromarray(noise).save(tmp_path / "a.png")
    cache = build_cache(tmp_path, 2, cache_folder=tmp_path / "cache")

    def detailed(candidates):
        sampler = PatchSampler(cache, batch_size=400, patch=4, candidates=candidates)
        return np.mean([detail(hr.numpy()) > 0 for hr in sampler.batch(0)[1].permute(0, 2, 3, 1)])

    share = 36 / 57  # columns from 25 to 56 of 57 reach into the noise
    for candidates in (1, 4):
        expected = 1 - (1 - share) ** candidates
        assert abs(detailed(candidates) - expected) < 0.1
    lr, hr = PatchSampler(cache, batch_size=6, patch=8, candidates=3).batch(2)
    parts = [
        PatchSampler(cache, batch_size=6, patch=8, candidates=3, rank=r, world_size=2).batch(2)
        for r in range(2)
    ]
    assert torch.equal(torch.cat([part[0] for part in parts]), lr)
    assert torch.equal(torch.cat([part[1] for part in parts]), hr)


def test_detail():
    ramp = np.arange(100, dtype=np.uint8).reshape(10, 10, 1).repeat(3, axis=2)
    assert detail(ramp) == 0
    ramp[5, 5, 1] += 8
    # One pixel counts twice in the middle, and once on either side: (16 + 8 + 8) / 80, both ways.
    assert detail(ramp) == pytest.approx(2 * 32 / 80)
    assert detail(ramp[:2, :2]) == 0


def test_eight_symmetries():
    patch = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    results = []
    for k in range(8):
        out = np.empty_like(patch)
        turn(patch, k, out)
        results.append(out.tobytes())
    expected = [
        np.rot90(p, quarter).tobytes() for p in (patch, np.fliplr(patch)) for quarter in range(4)
    ]
    assert results == expected
    assert len(set(results)) == 8


def test_draws_are_uniform(cache):
    lr = PatchSampler(cache, batch_size=8000, patch=8, seed=0).batch(0)[0].int()
    counts = torch.bincount(lr[:, 2, 0, 0], minlength=2).numpy()  # the third image is too small
    share = 20 * 30 / (20 * 30 + 24 * 50)
    assert abs(counts[0] / 8000 - share) < 4 * np.sqrt(share * (1 - share) / 8000)
    top = lr[lr[:, 2, 0, 0] == 0][:, 0].flatten(1).amin(1)
    assert sorted(set(top.tolist())) == list(range(13))  # 20 rows hold 13 places for 8
    # Which way rows and columns run tells the symmetries apart.
    down, right = lr[:, :2, 1, 0] - lr[:, :2, 0, 0], lr[:, :2, 0, 1] - lr[:, :2, 0, 0]
    seen = torch.cat([down, right], dim=1).unique(dim=0, return_counts=True)[1]
    assert len(seen) == 8
    assert (abs(seen - 1000) < 4 * np.sqrt(8000 * 7 / 64)).all()


def test_small_images_are_left_out(cache):
    assert cache.smaller_than(8) == ["2"]
    assert cache.smaller_than(7) == []
    drawn = PatchSampler(cache, batch_size=200, patch=8).batch(0)[0][:, 2, 0, 0]
    assert set(drawn.tolist()) == {0, 1}
    with pytest.raises(InputError, match="smaller than a 90×90 patch"):
        PatchSampler(cache, patch=30)


def test_a_batch_must_be_shareable(cache):
    with pytest.raises(UsageError, match="16 can't be shared by 3 devices"):
        PatchSampler(cache, batch_size=16, patch=8, world_size=3)

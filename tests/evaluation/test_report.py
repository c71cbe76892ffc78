import json
import math
from pathlib import Path

import pytest

from hspan.evaluation import (
    DatasetScore,
    Evaluation,
    Failure,
    ImageScore,
    Protocol,
    published_rows,
)

FIELDS = (
    "resize colour rounding border grey mean tile ensemble precision device weights versions"
).split()
PROTOCOL = Protocol(scale=2, kind="BI", **{name: f"some {name}" for name in FIELDS})


def dataset(*psnr, failures=()):
    return DatasetScore(
        name="Set5",
        folder=Path("data/Set5"),
        lr="made from HR",
        images=tuple(
            ImageScore(name=f"i{n}", psnr=p, ssim=0.9, seconds=0.5) for n, p in enumerate(psnr)
        ),
        failures=failures,
    )


def evaluation(score):
    rows = published_rows(2, method="Bicubic")
    return Evaluation(model="bicubic", protocol=PROTOCOL, datasets=(score,), references=tuple(rows))


def test_means_are_over_images():
    score = dataset(30.0, 33.0)
    assert (score.psnr, score.ssim, score.seconds) == (31.5, pytest.approx(0.9), 0.5)


def test_no_images_have_no_mean():
    score = dataset(failures=(Failure(name="i", reason="broken"),))
    assert (score.psnr, score.ssim, score.seconds) == (None, None, None)
    assert not evaluation(score).complete


def test_json_layout_is_stable():
    failure = Failure(name="broken", reason="no image")
    content = evaluation(dataset(30.0, failures=(failure,))).to_json()
    assert content == {
        "schema": "hspan.eval/1",
        "model": "bicubic",
        "scale": 2,
        "kind": "BI",
        "complete": False,
        "protocol": {name: f"some {name}" for name in FIELDS},
        "datasets": [
            {
                "name": "Set5",
                "folder": "data/Set5",
                "lr": "made from HR",
                "psnr": 30.0,
                "ssim": 0.9,
                "seconds_per_image": 0.5,
                "images": [{"name": "i0", "psnr": 30.0, "ssim": 0.9, "seconds": 0.5}],
                "failures": [{"name": "broken", "reason": "no image"}],
                "published": [{"method": "Bicubic", "psnr": 33.66, "ssim": 0.9299, "note": ""}],
            }
        ],
    }


def test_json_holds_no_infinity():
    content = evaluation(dataset(math.inf)).to_json()
    json.dumps(content, allow_nan=False)
    assert content["datasets"][0]["psnr"] is None
    assert content["datasets"][0]["images"][0]["psnr"] is None


def test_protocol_lines_name_everything_but_the_heading():
    lines = PROTOCOL.lines()
    assert lines[0] == "resize: some resize"
    assert lines[-1] == "versions: some versions"
    assert len(lines) == len(FIELDS)

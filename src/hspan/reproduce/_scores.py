"""Scores on data sets, kept on disk so that nothing is upscaled twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

from hspan._version import __version__
from hspan._whole_files import write_text
from hspan.errors import InputError
from hspan.evaluation import Failure, ImageScore, evaluate
from hspan.reproduce._benchmarks import Dataset
from hspan.reproduce._contestants import Contestant
from hspan.reproduce._job import Job

Kind = Literal["BI", "BD"]
Grey = Literal["replicate", "raw"]


@dataclass(frozen=True)
class Scored:
    """Means over a data set.

    Attributes:
        psnr: dB.
        ssim: in [-1, 1].
        seconds: of upscaling, for one image.
        images: how many.
    """

    psnr: float
    ssim: float
    seconds: float
    images: int


def score(
    job: Job,
    contestant: Contestant,
    dataset: Dataset,
    scale: int,
    kind: Kind = "BI",
    grey: Grey = "replicate",
) -> Scored:
    """PSNR and SSIM on Y by ``hspan.evaluation.evaluate``, or what an earlier call found.

    Raises:
        InputError: an image can't be scored; a mean over fewer images would mislead.
    """
    facts = [__version__, contestant.weights, dataset.sha256, scale, kind, grey]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    path = job.out / "scores" / f"{contestant.name}-{dataset.name}-x{scale}-{kind}-{key}.json"
    if path.exists():
        return Scored(**json.loads(path.read_text(encoding="utf-8")))
    job.say(f"{job.name}: {contestant.title} on {dataset.name} ×{scale} {kind}")
    result = evaluate(
        contestant.model,
        [dataset.folder],
        scale=scale,
        kind=kind,
        grey=grey,
        device=job.device,
        on_image=_complain(job.say),
    )
    (found,) = result.datasets
    if found.failures:
        first = found.failures[0]
        raise InputError(f"{dataset.name}/{first.name}: {first.reason}")
    assert found.psnr is not None
    assert found.ssim is not None
    assert found.seconds is not None
    scored = Scored(found.psnr, found.ssim, found.seconds, len(found.images))
    write_text(path, json.dumps(asdict(scored)) + "\n", parents=True)
    return scored


def _complain(say: Callable[[str], None]) -> Callable[[str, ImageScore | Failure, int], None]:
    def report(dataset: str, outcome: ImageScore | Failure, total: int) -> None:
        if isinstance(outcome, Failure):
            say(f"{dataset}/{outcome.name}: {outcome.reason}")

    return report

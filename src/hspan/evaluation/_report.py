"""What an evaluation found, and under which protocol: plain records that turn into JSON."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from hspan.evaluation._published import PublishedRow

SCHEMA = "hspan.eval/1"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that a score depends on besides the images; one line of text per field."""

    scale: int
    kind: str
    resize: str
    colour: str
    rounding: str
    border: str
    grey: str
    mean: str
    tile: str
    ensemble: str
    precision: str
    device: str
    weights: str
    versions: str

    def lines(self) -> list[str]:
        """``name: value`` for every field but scale and kind, which head the table."""
        entries = dataclasses.asdict(self).items()
        return [f"{name}: {value}" for name, value in entries if name not in ("scale", "kind")]


@dataclass(frozen=True, kw_only=True)
class ImageScore:
    """One image: PSNR in decibels (infinite for identical images), SSIM, seconds to upscale it."""

    name: str
    psnr: float
    ssim: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An image that couldn't be scored, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class DatasetScore:
    """One folder: the images scored, and those that failed. Means are over the images scored."""

    name: str
    folder: Path
    lr: str  # where the LR images come from
    images: tuple[ImageScore, ...]
    failures: tuple[Failure, ...]

    @property
    def psnr(self) -> float | None:
        """Mean of the images' PSNR in decibels; None if every image failed."""
        return self._mean([image.psnr for image in self.images])

    @property
    def ssim(self) -> float | None:
        """Mean of the images' SSIM; None if every image failed."""
        return self._mean([image.ssim for image in self.images])

    @property
    def seconds(self) -> float | None:
        """Mean seconds per image, reading and scoring not counted; None if every image failed."""
        return self._mean([image.seconds for image in self.images])

    @staticmethod
    def _mean(values: list[float]) -> float | None:
        return fmean(values) if values else None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A model's scores on some folders of images."""

    model: str
    protocol: Protocol
    datasets: tuple[DatasetScore, ...]
    references: tuple[PublishedRow, ...] = field(default=())

    @property
    def complete(self) -> bool:
        """Whether every image was scored."""
        return not any(dataset.failures for dataset in self.datasets)

    def to_json(self) -> dict[str, Any]:
        """A dictionary for ``json.dumps``; the layout is stable within a schema number.

        ``schema`` (``hspan.eval/1``), ``model``, ``scale``, ``kind``, ``complete`` (false if an
        image failed), ``protocol`` (field name to text), and ``datasets``, a list of::

            {"name": str, "folder": str, "lr": str, "psnr": dB, "ssim": float,
             "seconds_per_image": float,
             "images": [{"name": str, "psnr": dB, "ssim": float, "seconds": float}],
             "failures": [{"name": str, "reason": str}],
             "published": [{"method": str, "psnr": dB, "ssim": float, "note": str}]}

        A number is null where there is none: a mean over no images, a cell that the paper leaves
        blank, the infinite PSNR of identical images.
        """
        protocol = dataclasses.asdict(self.protocol)
        return {
            "schema": SCHEMA,
            "model": self.model,
            "scale": protocol.pop("scale"),
            "kind": protocol.pop("kind"),
            "complete": self.complete,
            "protocol": protocol,
            "datasets": [self._dataset(dataset) for dataset in self.datasets],
        }

    def _dataset(self, dataset: DatasetScore) -> dict[str, Any]:
        published = [(row, row.score(dataset.name)) for row in self.references]
        return {
            "name": dataset.name,
            "folder": str(dataset.folder),
            "lr": dataset.lr,
            "psnr": _finite(dataset.psnr),
            "ssim": dataset.ssim,
            "seconds_per_image": dataset.seconds,
            "images": [
                {**dataclasses.asdict(image), "psnr": _finite(image.psnr)}
                for image in dataset.images
            ],
            "failures": [dataclasses.asdict(failure) for failure in dataset.failures],
            "published": [
                {"method": row.method, "psnr": score.psnr, "ssim": score.ssim, "note": row.note}
                for row, score in published
                if score is not None
            ],
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None

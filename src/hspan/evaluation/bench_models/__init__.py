"""What networks cost: time, memory and multiply-adds, beside what they are published to score."""

from hspan.evaluation.bench_models._plot import plot_models
from hspan.evaluation.bench_models._report import (
    ModelCase,
    ModelResult,
    ModelsReport,
    models_report_from_json,
)
from hspan.evaluation.bench_models._run import bench_models
from hspan.evaluation.bench_models._settings import ModelSettings

__all__ = [
    "ModelCase",
    "ModelResult",
    "ModelSettings",
    "ModelsReport",
    "bench_models",
    "models_report_from_json",
    "plot_models",
]

"""Benchmark runs under a stated protocol, and the paper's own tables to set beside them."""

from hspan.evaluation._benchmark import evaluate
from hspan.evaluation._published import PublishedRow, Score, published_rows
from hspan.evaluation._report import DatasetScore, Evaluation, Failure, ImageScore, Protocol

__all__ = [
    "DatasetScore",
    "Evaluation",
    "Failure",
    "ImageScore",
    "Protocol",
    "PublishedRow",
    "Score",
    "evaluate",
    "published_rows",
]

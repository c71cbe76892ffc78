"""Benchmark runs under a stated protocol, and the paper's own tables to set beside them."""

from hspan.evaluation._benchmark import evaluate
from hspan.evaluation._model_costs import ModelCost, costs_to_json, measure_costs, model_costs
from hspan.evaluation._multiply_adds import MultiplyAdds, count_multiply_adds, lr_size
from hspan.evaluation._published import PublishedRow, Score, published_row, published_rows
from hspan.evaluation._receptive_field import receptive_field
from hspan.evaluation._report import DatasetScore, Evaluation, Failure, ImageScore, Protocol

__all__ = [
    "DatasetScore",
    "Evaluation",
    "Failure",
    "ImageScore",
    "ModelCost",
    "MultiplyAdds",
    "Protocol",
    "PublishedRow",
    "Score",
    "costs_to_json",
    "count_multiply_adds",
    "evaluate",
    "lr_size",
    "measure_costs",
    "model_costs",
    "published_row",
    "published_rows",
    "receptive_field",
]

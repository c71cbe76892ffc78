"""How fast attention is: ours, the released program, softmax, and the bare product beneath them."""

from hspan.evaluation.bench_attention._features import KINDS, Features, Kind, draw_features
from hspan.evaluation.bench_attention._methods import DIRECTIONS, METHODS, Direction, Method
from hspan.evaluation.bench_attention._plot import alike, check_plot, plot_attention, save_figure
from hspan.evaluation.bench_attention._released import released_attention
from hspan.evaluation.bench_attention._report import (
    AttentionReport,
    Case,
    Result,
    report_from_json,
)
from hspan.evaluation.bench_attention._run import bench_attention
from hspan.evaluation.bench_attention._settings import Settings

__all__ = [
    "DIRECTIONS",
    "KINDS",
    "METHODS",
    "AttentionReport",
    "Case",
    "Direction",
    "Features",
    "Kind",
    "Method",
    "Result",
    "Settings",
    "alike",
    "bench_attention",
    "check_plot",
    "draw_features",
    "plot_attention",
    "released_attention",
    "report_from_json",
    "save_figure",
]

"""Where did this pixel come from? The attention of a network, made visible for one LR pixel."""

from hspan.explanation._draw import check_figure, draw_explanation
from hspan.explanation._explain import explain
from hspan.explanation._grid import Rectangle, TokenGrid
from hspan.explanation._result import (
    Explanation,
    LayerExplanation,
    Source,
    Sparsity,
    SwitchedOff,
)

__all__ = [
    "Explanation",
    "LayerExplanation",
    "Rectangle",
    "Source",
    "Sparsity",
    "SwitchedOff",
    "TokenGrid",
    "check_figure",
    "draw_explanation",
    "explain",
]

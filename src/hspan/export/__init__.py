"""Networks as files that other programs run: ONNX, torch.export, AOTInductor.

All are for any height and width. Attention is exact: soft thresholding by Newton's iteration, since
sorts and top-k of a size that is only known when the program runs don't export.
"""

from hspan.export._check import SIZES, TOLERANCE, Deviation, deviations, onnx_runner
from hspan.export._export import FORMATS, PRECISIONS, Exported, export_model
from hspan.export._onnx import onnx_model
from hspan.export._program import SMALLEST_SIDE, trace

__all__ = [
    "FORMATS",
    "PRECISIONS",
    "SIZES",
    "SMALLEST_SIDE",
    "TOLERANCE",
    "Deviation",
    "Exported",
    "deviations",
    "export_model",
    "onnx_model",
    "onnx_runner",
    "trace",
]

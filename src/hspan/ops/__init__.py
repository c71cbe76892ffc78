"""Tensor mathematics of high-similarity-pass attention: no modules, no files."""

from hspan.ops._export import NEWTON_STEPS, export_decompositions, soft_threshold_newton
from hspan.ops.attention import attention_support, hspa_attention, softmax_attention
from hspan.ops.soft_threshold import soft_threshold

__all__ = [
    "NEWTON_STEPS",
    "attention_support",
    "export_decompositions",
    "hspa_attention",
    "soft_threshold",
    "soft_threshold_newton",
    "softmax_attention",
]

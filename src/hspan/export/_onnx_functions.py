"""The attention as functions of an ONNX file, in two forms.

Eq. (8)             hspan.Attention      all queries at once, or a Scan over groups of queries
Eqs. (9), (11, 12)  hspan.SoftThreshold  Newton's iteration on kappa: a fixed number of steps, or a
                                         Loop that ends by itself

Both are model-local functions in ONNX's own textual form: they stand in the file beside the graph,
and any runtime of opset 20 inlines them. The first form has no control flow, for runtimes that
have none; the second is faster, and its memory is linear in the number of pixels.

Shapes: B batch, N queries, M keys, C and D channels.
"""

from __future__ import annotations

from typing import Any

from hspan.export._packages import package
from hspan.ops import NEWTON_STEPS

DOMAIN = "hspan"  # of the functions; version 1
OPSET = 20

SCORES_AT_ONCE = 1 << 22
"""Scores of one group of queries: 16 MiB in float32; the loop holds about four such at a time."""

_PASSES = 100  # as in soft_threshold.py: only a guard; supports shrink, so the loop ends by itself

_HEADER = f"""
<domain: "{DOMAIN}", opset_import: ["" : {OPSET}, "{DOMAIN}" : 1]>
"""

# Rows are shifted by their maximum, so that kappa lies in [-1, 0). On the way up from -1 supports
# only shrink: where no row's count changed, each kappa came from its final support, and the last
# step, which may also lead down, takes away the rounding of sums over larger supports.
_LOOPED_SOFT_THRESHOLD = f"""{_HEADER}
SoftThreshold (scores) => (weights)
{{
  last = Constant <value_ints = [-1]> ()
  one = Constant <value_float = 1.0> ()
  zero = Constant <value_float = 0.0> ()
  yes = Constant <value = bool {{1}}> ()
  passes = Constant <value = int64 {{{_PASSES}}}> ()
  top = ReduceMax (scores, last)
  shifted = Sub (scores, top)
  nothing = Mul (top, zero)
  lowest = Sub (nothing, one)
  impossible = Sub (lowest, one)
  highest, count, kappa = Loop (passes, yes, lowest, impossible, lowest) <body = newton
      (int64 index, bool go, float[b, n, u] kappa_before, float[b, n, u] count_before,
       float[b, n, u] unused)
      => (bool again, float[b, n, u] kappa_after, float[b, n, u] count_after,
          float[b, n, u] climbed)
  {{
    above = Sub (shifted, kappa_before)
    excess = Relu (above)
    supported = Sign (excess)
    count_after = ReduceSum (supported, last)
    total = ReduceSum (excess, last)
    surplus = Sub (total, one)
    step = Div (surplus, count_after)
    climbed = Add (kappa_before, step)
    kappa_after = Max (kappa_before, climbed)
    change = Sub (count_after, count_before)
    size = Abs (change)
    largest = ReduceMax <keepdims = 0> (size)
    again = Greater (largest, zero)
  }}>
  rest = Sub (shifted, kappa)
  weights = Relu (rest)
}}
"""

# Queries are padded to whole groups with zeros, whose rows are dropped at the end.
_GROUPED_ATTENTION = f"""{_HEADER}
Attention (query, key, value) => (mixed)
{{
  zero = Constant <value_ints = [0]> ()
  one = Constant <value_ints = [1]> ()
  rest = Constant <value_ints = [-1]> ()
  at_once = Constant <value_ints = [{SCORES_AT_ONCE}]> ()
  batch = Shape <start = 0, end = 1> (query)
  queries = Shape <start = 1, end = 2> (query)
  keys = Shape <start = 1, end = 2> (key)
  depth = Shape <start = 2, end = 3> (value)
  row = Mul (batch, keys)
  fitting = Div (at_once, row)
  some = Max (fitting, one)
  rows = Min (some, queries)
  more = Add (queries, rows)
  most = Sub (more, one)
  groups = Div (most, rows)
  whole = Mul (groups, rows)
  missing = Sub (whole, queries)
  ends = Concat <axis = 0> (zero, zero, zero, zero, missing, zero)
  padded = Pad (query, ends)
  grouped = Concat <axis = 0> (batch, groups, rows, rest)
  split = Reshape (padded, grouped)
  turned = Transpose <perm = [0, 2, 1]> (key)
  parts = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1],
      body = group (float[b, r, c] part) => (float[b, r, d] out)
  {{
    scores = MatMul (part, turned)
    weights = {DOMAIN}.SoftThreshold (scores)
    out = MatMul (weights, value)
  }}> (split)
  joined = Concat <axis = 0> (batch, rest, depth)
  all = Reshape (parts, joined)
  mixed = Slice (all, zero, queries, one)
}}
"""


_WHOLE_ATTENTION = f"""{_HEADER}
Attention (query, key, value) => (mixed)
{{
  turned = Transpose <perm = [0, 2, 1]> (key)
  scores = MatMul (query, turned)
  weights = {DOMAIN}.SoftThreshold (scores)
  mixed = MatMul (weights, value)
}}
"""


def _fixed_soft_threshold() -> str:
    """The steps of ``soft_threshold_newton`` one after the other."""
    steps = "".join(
        f"""
  above{i} = Sub (shifted, kappa{i})
  excess{i} = Relu (above{i})
  supported{i} = Sign (excess{i})
  count{i} = ReduceSum (supported{i}, last)
  total{i} = ReduceSum (excess{i}, last)
  surplus{i} = Sub (total{i}, one)
  step{i} = Div (surplus{i}, count{i})
  climbed{i} = Add (kappa{i}, step{i})
  kappa{i + 1} = Max (kappa{i}, climbed{i})"""
        for i in range(NEWTON_STEPS)
    )
    last = NEWTON_STEPS - 1
    return f"""{_HEADER}
SoftThreshold (scores) => (weights)
{{
  last = Constant <value_ints = [-1]> ()
  one = Constant <value_float = 1.0> ()
  kappa0 = Constant <value_floats = [-1.0]> ()
  top = ReduceMax (scores, last)
  shifted = Sub (scores, top){steps}
  rest = Sub (shifted, climbed{last})
  weights = Relu (rest)
}}
"""


def attention_functions(*, memory_linear: bool) -> list[Any]:
    """``hspan.SoftThreshold`` (scores [..., M]) and ``hspan.Attention`` (query, key, value).

    Args:
        memory_linear: loops instead of fixed steps on the whole matrix.

    Returns:
        Two ``onnx.FunctionProto``.
    """
    parser = package("onnx.parser")
    if memory_linear:
        texts = _LOOPED_SOFT_THRESHOLD, _GROUPED_ATTENTION
    else:
        texts = _fixed_soft_threshold(), _WHOLE_ATTENTION
    return [parser.parse_function(text) for text in texts]

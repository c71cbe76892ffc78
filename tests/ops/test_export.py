"""The export form: equal to the exact one, and free of what exporters can't follow."""

import pytest
import torch
from torch import nn

from hspan import UsageError, hspa_attention, soft_threshold
from hspan.modules import HSPA
from hspan.ops import export_decompositions, soft_threshold_newton


@pytest.mark.parametrize("spread", [1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("dim", [0, -1])
def test_newton_equals_exact(spread, dim):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(300, 300, dtype=torch.float64, generator=generator) * spread
    torch.testing.assert_close(
        soft_threshold_newton(scores, dim), soft_threshold(scores, dim), rtol=0, atol=1e-12
    )


def test_too_few_steps_never_overshoot():
    scores = torch.randn(50, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sums = [soft_threshold_newton(scores, steps=n).sum(-1) for n in (1, 3, 24)]
    assert (sums[0] >= sums[1]).all()
    assert (sums[1] >= 1 - 1e-12).all()
    torch.testing.assert_close(sums[2], torch.ones(50, dtype=torch.float64))


class Attention(nn.Module):
    def forward(self, query, key, value):
        return hspa_attention(query, key, value)


def called(program) -> set[str]:
    return {str(n.target) for n in program.graph.nodes if n.op == "call_function"}


def test_exported_program_has_one_node_and_opens_without_sorting():
    tensors = (torch.randn(1, 40, 4), torch.randn(1, 50, 4), torch.randn(1, 50, 3))
    program = torch.export.export(Attention(), tensors)
    assert "hspan.attention.default" in called(program)
    opened = program.run_decompositions(export_decompositions())
    names = called(opened)
    assert not any(word in n for n in names for word in ("hspan", "sort", "topk", "nonzero"))
    torch.testing.assert_close(opened.module()(*tensors), hspa_attention(*tensors))


def test_block_exports_with_dynamic_size():
    block = HSPA(8, topk=None).eval()
    size = {2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)}
    program = torch.export.export(block, (torch.randn(1, 8, 12, 10),), dynamic_shapes=(size,))
    opened = program.run_decompositions(export_decompositions())
    x = torch.randn(1, 8, 9, 17)
    torch.testing.assert_close(opened.module()(x), block(x))


def test_truncation_is_refused():
    program = torch.export.export(HSPA(8, topk=16), (torch.randn(1, 8, 12, 10),))
    with pytest.raises(UsageError, match="topk=None"):
        program.run_decompositions(export_decompositions())

import os
from dataclasses import replace

import pytest
import torch

from hspan.evaluation.bench_attention import METHODS
from hspan.evaluation.bench_attention._workload import Workload


@pytest.mark.parametrize("name", ["ours", "released", "sdpa-fp32"])
@pytest.mark.parametrize("direction", ["forward", "forward+saved", "forward+backward"])
def test_some_queries_and_tiles_are_parts_of_the_whole(name, direction, features):
    method = METHODS[name]
    whole = Workload(method, features, direction).run()
    assert (len(whole), whole[0].shape) == (1, (1, 400, 12))
    work = Workload(method, features, direction, rows=90, tile=40)
    parts = work.run()
    assert [part.shape[1] for part in parts] == [40, 40, 10]
    assert work.indices[:4].tolist() == [0, 4, 8, 13]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole[0][:, work.indices])
    assert all(part.requires_grad == (direction == "forward+saved") for part in parts)


def test_gradients_over_tiles_are_those_of_the_whole(features):
    """And a second run starts from none."""
    whole = Workload(METHODS["released"], features, "forward+backward")
    tiled = Workload(METHODS["released"], features, "forward+backward", tile=150)
    whole.run()
    tiled.run()
    tiled.run()
    torch.testing.assert_close(tiled._key.grad, whole._key.grad)
    torch.testing.assert_close(tiled._value.grad, whole._value.grad)
    queries = torch.cat([q.grad for q in tiled._queries], dim=1)
    torch.testing.assert_close(queries, whole._queries[0].grad)


@pytest.mark.parametrize("before", [None, "avx512"])
def test_the_instruction_set_holds_during_a_run_only(before, features, monkeypatch):
    monkeypatch.delenv("HSPAN_ISA", raising=False)
    if before:
        monkeypatch.setenv("HSPAN_ISA", before)
    seen = []

    def attend(query, key, value, _):
        seen.append(os.environ.get("HSPAN_ISA"))
        return query

    method = replace(METHODS["ours"], attend=attend, instruction_set="avx2")
    Workload(method, features, "forward").run()
    Workload(replace(method, instruction_set=None), features, "forward").run()
    assert seen == ["avx2", before]
    assert os.environ.get("HSPAN_ISA") == before

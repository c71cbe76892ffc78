from dataclasses import replace

import pytest
import torch

from hspan import hspa_attention
from hspan.errors import UsageError
from hspan.evaluation.bench_attention import METHODS
from hspan.evaluation.bench_attention._methods import choose_methods


@pytest.mark.parametrize("name", METHODS)
def test_each_computes_what_it_says(name, features):
    method = METHODS[name]
    if reason := method.why_not():
        pytest.skip(reason)
    query, key, value = method.prepare(features.query, features.key, features.value)
    out = method.attend(query, key, value, features).float()
    scores = features.query @ features.key.transpose(1, 2)
    if name.startswith("product"):
        truth = scores.amax(dim=-1, keepdim=True)
    elif name.startswith("sdpa"):
        truth = scores.softmax(dim=-1) @ features.value
    else:
        assert method.exact
        truth = hspa_attention(features.query, features.key, features.value, backend="reference")
    bf16 = name in ("sdpa-bf16", "product-bf16")
    assert (value.dtype is torch.bfloat16) == bf16
    torch.testing.assert_close(out, truth, rtol=0.05 if bf16 else 0, atol=0.03 if bf16 else 1e-5)


def test_which_are_chosen():
    usual = choose_methods(None)
    assert list(usual)[:2] == ["ours", "released"]
    assert not any(method.instruction_set for method in usual.values())
    assert list(choose_methods([])) == ["ours"]
    assert list(choose_methods(["hspan-avx2", "released"])) == ["ours", "released", "hspan-avx2"]
    with pytest.raises(UsageError, match="unknown method 'flash': choose from ours, released"):
        choose_methods(["flash"])


def test_only_all_queries_together_are_an_image(features, monkeypatch):
    widths = []

    def attention(query, key, value, *, width, backend):
        widths.append(width)
        return query

    monkeypatch.setattr("hspan.evaluation.bench_attention._methods.hspa_attention", attention)
    image = replace(features, width=20)
    for query in (features.query, features.query[:, :100]):
        METHODS["ours"].attend(query, features.key, features.value, image)
    assert widths == [20, None]


def test_bytes_of_matrices():
    released, ours = METHODS["released"], METHODS["ours"]
    assert released.matrix_bytes(10, 100, "forward") == 4 * 10 * 100 * 4
    assert released.matrix_bytes(10, 100, "forward+backward") > 4 * 10 * 100 * 5
    assert ours.matrix_bytes(10, 100, "forward+backward") == 0


def test_levels_say_why_they_cannot_run(monkeypatch):
    module = "hspan.evaluation.bench_attention._methods"
    monkeypatch.setattr(f"{module}.instruction_sets", lambda: ["portable", "avx2"])
    assert METHODS["hspan-amx"].why_not() == "no amx in this machine or build"
    monkeypatch.setattr(f"{module}.instruction_sets", list)
    monkeypatch.setattr(f"{module}.why_missing", lambda: "nothing was compiled")
    assert METHODS["hspan-avx2"].why_not() == "nothing was compiled"

import pytest

from hspan.inference._speed import Rate, speed_of


def test_attention_is_products_pairs_and_queries():
    rate = Rate(products=1e9, pair=1e-9, query=1e-6)
    assert rate.seconds(1000, 2000, 3) == pytest.approx(2e6 * (6e-9 + 1e-9) + 1e-3)


def test_threads_share_the_work():
    one, four = speed_of("cpu", "fp32", 1), speed_of("cpu", "fp32", 4)
    assert four.arithmetic == 4 * one.arithmetic
    for rates in ((one.compiled, four.compiled), (one.plain, four.plain)):
        alone, shared = (rate.seconds(500, 700, 24) for rate in rates)
        assert shared == pytest.approx(alone / 4)


def test_instruction_sets_differ(monkeypatch):
    times = []
    for name in ("portable", "avx2", "avx512_bf16"):
        monkeypatch.setenv("HSPAN_ISA", name)
        times.append(speed_of("cpu", "fp32", 1).compiled.seconds(4096, 4096, 96))
    assert times == sorted(times, reverse=True)
    monkeypatch.setenv("HSPAN_ISA", "amx")  # one without constants of its own: the best known
    assert speed_of("cpu", "fp32", 1).compiled.seconds(4096, 4096, 96) == times[-1]


def test_gpus_are_faster():
    assert speed_of("cuda", "bf16").arithmetic > speed_of("cpu", "bf16", 16).arithmetic

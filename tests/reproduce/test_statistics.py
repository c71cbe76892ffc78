import pytest

from hspan.reproduce._statistics import mean_and_spread, order_sentence, paired, spread


def test_spread():
    assert spread([1.0]) is None
    assert spread([1.0, 3.0]) == pytest.approx(2**0.5)
    assert mean_and_spread([1.0, 3.0]).text == "2.00 ± 1.41"
    assert mean_and_spread([0.5], sign=True).text == "+0.50"
    assert paired([3.0, 2.0], [1.0, 1.0]) == [2.0, 1.0]


def test_order():
    clear = {"a": [1.0, 1.1, 1.2], "b": [2.0, 2.1, 2.2]}
    assert "a < b, which is the published order. Every" in order_sentence(clear, ["a", "b"])
    assert "while the published order is b < a" in order_sentence(clear, ["b", "a"])
    unsure = {"a": [1.0, 1.1, 1.2], "b": [2.0, 1.0, 2.2]}
    assert "don't stand clear of their spread for a and b" in order_sentence(unsure, ["a", "b"])
    assert order_sentence(clear, ["a"]) == order_sentence(clear, []) == ""  # nothing to compare
    assert "One seed says nothing" in order_sentence({"a": [1.0], "b": [2.0]}, ["a", "b"])

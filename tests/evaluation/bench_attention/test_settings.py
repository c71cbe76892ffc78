from dataclasses import replace

import pytest

from hspan.errors import UsageError
from hspan.evaluation.bench_attention import Settings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": ()}, "no number of tokens"),
        ({"directions": ()}, "no direction"),
        ({"directions": ("back",)}, "directions are forward, forward.saved, forward.backward"),
        ({"tokens": (2304, 0)}, "at least 2, got 0"),
        ({"tokens": (20,)}, r"support must lie in \[1, 20\)"),
        ({"methods": ("flash",)}, "unknown method 'flash'"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"budget": 0.0}, "more than 0 seconds"),
        ({"budget": float("nan")}, "more than 0 seconds"),
    ],
)
def test_impossible_settings_are_one_sentence(change, message):
    with pytest.raises(UsageError, match=message):
        replace(Settings(), **change)

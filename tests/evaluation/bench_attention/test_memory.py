import sys

import pytest

from hspan.errors import InputError
from hspan.evaluation.bench_attention import _memory, draw_features
from hspan.evaluation.bench_attention._memory import peak_memory


@pytest.mark.skipif(sys.platform == "win32", reason="Windows doesn't say what a process held")
def test_the_released_program_holds_matrices():
    """Three to five of them; this process's own memory, which is larger, isn't counted."""
    features = draw_features("gaussian", 2000, channels=8, support=8)
    matrix = 4 * 2000**2
    assert 3 * matrix < peak_memory("released", features, "forward", 1) < 5.5 * matrix


def test_a_failing_process_is_an_error_in_one_sentence(features, monkeypatch):
    monkeypatch.setattr(_memory, "__name__", "hspan.nowhere")
    with pytest.raises(InputError, match="memory of ours couldn't be measured: ModuleNotFound"):
        peak_memory("ours", features, "forward", 1)

"""What the tests of the compiled kernel share."""

import pytest
import torch

from hspan.ops import _calls


@pytest.fixture
def run_on(monkeypatch):
    """Chooses an instruction set and a number of threads for the test; returns the set's name."""
    before = torch.get_num_threads()

    def choose(name, threads):
        monkeypatch.setenv("HSPAN_ISA", name)
        monkeypatch.setattr(_calls, "SMALL", 0)  # otherwise calls this small have one thread
        torch.set_num_threads(threads)
        return name

    yield choose
    torch.set_num_threads(before)

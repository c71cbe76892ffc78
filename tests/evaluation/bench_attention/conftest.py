import pytest
import torch

from hspan.evaluation.bench_attention import Features, draw_features


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """The bundled photograph, and times that don't depend on what else runs."""
    monkeypatch.delenv("HSPAN_DATA", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def features() -> Features:
    """400 tokens of 6 and 12 channels."""
    return draw_features("gaussian", 400, channels=12, support=8.0)

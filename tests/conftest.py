"""What all tests share: threads, and where the benchmark images are, if they are here at all."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Processes that test side by side share the cores; so do the programs that they start.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with benchmarks/, golden/ and train/; the test is skipped where it is absent."""
    folder = Path(os.environ.get("HSPAN_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("needs the benchmark images (set HSPAN_DATA to their folder)")
    return folder

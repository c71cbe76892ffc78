"""Shared fixtures: where the benchmark images are, if they are here at all."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with benchmarks/, golden/ and train/; the test is skipped where it is absent."""
    folder = Path(os.environ.get("HSPAN_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("needs the benchmark images (set HSPAN_DATA to their folder)")
    return folder

"""Freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

from hspan import _allocator


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an allocator of its own")
def test_glibc_takes_the_settings():
    # In a process of its own: the settings last as long as it does.
    script = "from hspan._allocator import keep_memory; print(keep_memory())"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "True\n"


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(_allocator.sys, "platform", "darwin")
    assert _allocator.keep_memory() is False

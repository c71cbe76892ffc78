"""Freed memory stays with the process."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from hspan.training._allocator import keep_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def allocate():
    before = faults()
    torch.ones(64 * 2**18)  # 64 MiB
    return faults() - before

allocate()
usual = allocate()
kept = keep_memory()
allocate()
print(kept, usual, allocate())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an allocator of its own")
def test_memory_is_used_again():
    # In a process of its own, whose memory nothing else has touched.
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    kept, usual, again = run.stdout.split()
    assert kept == "True"
    assert int(usual) > 20  # new pages, however large
    assert int(again) < int(usual) / 10

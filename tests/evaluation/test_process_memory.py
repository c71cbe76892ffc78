"""Memory of a piece of work, and what the kernel says about a process."""

import sys

import pytest

from hspan.errors import InputError
from hspan.evaluation import _process_memory
from hspan.evaluation._process_memory import in_fresh_process, peak_of


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets the peak begin anew")
def test_only_the_work_counts():
    size = 40 << 20
    held = bytearray(size)
    assert size * 0.9 < peak_of(lambda: bytearray(b"x") * size) < size * 2
    assert len(held) == size


def test_a_failing_process_is_an_error_in_one_sentence():
    with pytest.raises(InputError, match="memory of it couldn't be measured: ModuleNotFound"):
        in_fresh_process("hspan.nowhere", {}, "it")


def test_the_kernels_account(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t    300 kB\nVmRSS:\t    200 kB\n")
    assert _process_memory._status("VmHWM", status) == 300 * 1024
    assert _process_memory._status("VmSwap", status) is None
    assert _process_memory._status("VmHWM", tmp_path / "absent") is None
    _process_memory._forget_peak(tmp_path / "absent" / "clear_refs")

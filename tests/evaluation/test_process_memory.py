"""Memory of a piece of work, and what the kernel says about a process."""

import subprocess
import sys

import pytest

from hspan.errors import InputError
from hspan.evaluation import _process_memory
from hspan.evaluation._process_memory import in_fresh_process


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets the peak begin anew")
def test_only_the_work_counts():
    # In a process of its own: from a large one, the kernel takes idle pages away meanwhile.
    code = (
        "from hspan.evaluation._process_memory import peak_of\n"
        "size = 40 << 20\n"
        "held = bytearray(size)\n"
        "print(peak_of(lambda: bytearray(b'x') * size) / len(held))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.9 < float(run.stdout) < 2


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

import subprocess
from datetime import datetime

import pytest
import torch

from hspan.errors import UsageError
from hspan.evaluation.bench_attention._machine import (
    describe_commit,
    describe_kernel,
    describe_machine,
    describe_run,
    describe_versions,
    now,
)
from hspan.ops._backends import BACKENDS
from hspan.ops._library import instruction_sets, why_missing


def test_the_processor_and_what_it_can_do(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    core = "model name\t: Some 9000\nflags\t\t: fpu avx2 amx_tile sgx\n\n"
    cpuinfo.write_text(core * 2)
    machine = describe_machine(cpuinfo)
    assert (machine["processor"], machine["instructions"]) == ("Some 9000", ["avx2", "amx_tile"])
    assert machine["threads"] == torch.get_num_threads()
    elsewhere = describe_machine(tmp_path / "absent")
    assert elsewhere["processor"]
    assert elsewhere["instructions"] == []


def test_versions_and_date():
    assert describe_versions()["torch"] == torch.__version__
    assert datetime.fromisoformat(now()).utcoffset().total_seconds() == 0


def test_the_kernel_that_auto_takes(monkeypatch):
    monkeypatch.delenv("HSPAN_ISA", raising=False)
    kernel = describe_kernel()
    assert kernel["backend"] in BACKENDS
    assert kernel["instruction_set"] == (instruction_sets() or [None])[-1]
    assert kernel["no_compiled_kernels"] == (why_missing() or None)
    monkeypatch.setenv("HSPAN_ISA", "sse9")
    if instruction_sets():
        with pytest.raises(UsageError, match="HSPAN_ISA"):
            describe_kernel()


def test_the_commit_of_a_checkout(tmp_path):
    file = tmp_path / "module.py"
    file.write_text("1")
    assert describe_commit(file) is None

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=b"]
        run = subprocess.run(
            ["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True, text=True
        )
        return run.stdout.strip()

    git("init")
    assert describe_commit(file) is None  # somebody else's checkout
    git("add", "module.py")
    git("commit", "-m", "first")
    assert describe_commit(file) == git("rev-parse", "HEAD")
    file.write_text("2")
    assert describe_commit(file) == git("rev-parse", "HEAD") + "+"


def test_the_head_of_a_result_file():
    head = describe_run()
    assert head["torch"] == torch.__version__
    assert head["processor"] == describe_machine()["processor"]
    assert head["commit"] == describe_commit()
    assert head["load"] >= 0
    assert datetime.fromisoformat(head["time"]).tzinfo is not None

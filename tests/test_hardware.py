import pytest
import torch

from hspan import hardware
from hspan.errors import UsageError
from hspan.hardware import available_memory, choose_device, choose_precision

CPU = torch.device("cpu")


def test_devices():
    assert choose_device("cpu") == CPU
    expected = "cuda" if torch.cuda.is_available() else "mps"
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        expected = "cpu"
    assert choose_device("auto").type == expected


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "meta"])
def test_impossible_devices_are_refused(name):
    with pytest.raises(UsageError, match=r"can't be used here|computes no images"):
        choose_device(name)


def test_precisions(monkeypatch):
    for name in ("fp32", "bf16", "fp16"):
        assert choose_precision(name, CPU) == name
    with pytest.raises(UsageError, match="unknown precision 'fp8'"):
        choose_precision("fp8", CPU)
    for ask in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, ask, lambda: False, raising=False)
    assert choose_precision("auto", CPU) == "fp32"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert choose_precision("auto", CPU) == "bf16"


def test_free_memory_is_that_of_the_system_or_the_container(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:    1234 kB\n")
    assert hardware._system_memory(meminfo) == 1234 * 1024
    assert hardware._container_memory(tmp_path / "none") > 2**60
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert hardware._container_memory(tmp_path) > 2**60
    (tmp_path / "memory.max").write_text("5000\n")
    assert hardware._container_memory(tmp_path) == 4000
    assert 2**20 < available_memory(CPU) < 2**50

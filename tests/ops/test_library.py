"""The compiled kernels' library: what is in it, what is chosen from it, and its absence."""

import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hspan.errors import BackendUnavailable, UsageError
from hspan.ops import _library

# Linux's names (/proc/cpuinfo) of what each level needs, beyond the levels below it.
NEEDS = {
    "portable": set(),
    "avx2": {"avx2", "fma"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
    "avx512_bf16": {"avx512_bf16"},
    "amx": {"amx_tile", "amx_bf16"},
}


def forget() -> None:
    _library._load.cache_clear()
    _library._usable_levels.cache_clear()
    _library.say_missing_once.cache_clear()


@pytest.fixture
def fresh(monkeypatch) -> Iterator[pytest.MonkeyPatch]:
    """A process that has not asked for the library yet; its environment may be changed."""
    monkeypatch.delenv("HSPAN_ISA", raising=False)
    forget()
    yield monkeypatch
    forget()


@pytest.fixture
def built() -> Path:
    """The library's file; tests of what is in it are skipped in an installation without."""
    library = _library.library()
    if library is None:
        if os.environ.get("HSPAN_REQUIRE_NATIVE"):
            pytest.fail(_library.why_missing())
        pytest.skip(_library.why_missing())
    return Path(library._name)


def compiled_sets() -> list[str]:
    library = _library.library()
    return [library.hspan_isa_name(i).decode() for i in range(library.hspan_isa_count())]


def test_levels_ascend_from_one_that_runs_everywhere(built):
    names = compiled_sets()
    assert names == [name for name in NEEDS if name in names]
    assert _library.instruction_sets()[0] == "portable"
    assert _library.why_missing() == ""


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="asks Linux what the processor has")
def test_usable_levels_are_what_the_system_reports(built):
    line = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    flags = set(line[1].split()) if line else set()
    needed: set[str] = set()
    for name in compiled_sets():
        needed |= NEEDS[name]
        usable = name in _library.instruction_sets()
        if name == "amx":  # the system may have it and not permit it
            assert needed <= flags or not usable
        else:
            assert usable == (needed <= flags), name


def test_no_level_outside_the_table(built):
    library = _library.library()
    for level in (-1, library.hspan_isa_count()):
        assert library.hspan_isa_name(level) is None
        assert library.hspan_isa_usable(level) == 0


def test_best_level_unless_told(built, fresh):
    usable = _library.instruction_sets()
    names = compiled_sets()
    assert names[_library.chosen_level()] == usable[-1]
    fresh.setenv("HSPAN_ISA", "")
    assert names[_library.chosen_level()] == usable[-1]
    for name in usable:
        fresh.setenv("HSPAN_ISA", name)
        assert names[_library.chosen_level()] == name


def test_unusable_level_is_refused_with_the_usable_ones(built, fresh):
    usable = _library.instruction_sets()
    for name in {*NEEDS, "sse9"} - set(usable):
        fresh.setenv("HSPAN_ISA", name)
        with pytest.raises(UsageError, match=f"{name}.*choose from {', '.join(usable)}$"):
            _library.chosen_level()


def test_another_library_can_be_named(built, fresh, tmp_path):
    copy = shutil.copy(built, tmp_path / "other.so")
    fresh.setenv("HSPAN_LIBRARY", str(copy))
    library = _library.library()
    assert library is not None
    assert library._name == str(copy)


def test_another_version_is_not_used(built, fresh):
    version = _library.ABI_VERSION
    fresh.setattr(_library, "ABI_VERSION", version + 1)
    assert _library.library() is None
    expected = f"another version of hspan (interface {version}, not {version + 1})"
    assert expected in _library.why_missing()


def test_foreign_library_is_not_used(fresh):
    for name in ("libc10.so", "libc10.dylib", "c10.dll"):
        path = Path(torch.__file__).parent / "lib" / name
        if path.exists():
            fresh.setenv("HSPAN_LIBRARY", str(path))
    assert "interface None" in _library.why_missing()


def test_damaged_library_is_not_used(fresh, tmp_path):
    path = tmp_path / "_kernels.so"
    path.write_bytes(b"\x7fELF, cut short")
    fresh.setenv("HSPAN_LIBRARY", str(path))
    assert _library.library() is None
    assert _library.why_missing().startswith("the compiled kernels can't be loaded")


def test_missing_library_leaves_no_levels(fresh, tmp_path):
    fresh.setenv("HSPAN_LIBRARY", str(tmp_path / "absent.so"))
    assert _library.library() is None
    assert _library.instruction_sets() == []
    with pytest.raises(BackendUnavailable, match=r"absent\.so, which is no file"):
        _library.chosen_level()


def test_notice_is_logged_once(fresh, tmp_path, caplog):
    fresh.setenv("HSPAN_LIBRARY", str(tmp_path / "absent.so"))
    for _ in range(3):
        _library.say_missing_once()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "pure PyTorch" in caplog.text
    assert "absent.so" in caplog.text


def test_no_notice_when_nothing_is_missing(built, fresh, caplog):
    _library.say_missing_once()
    assert not caplog.records


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_user_sees_the_notice_without_setting_anything(tmp_path):
    code = "from hspan.ops import _library as l; l.say_missing_once(); l.say_missing_once()"
    absent = str(tmp_path / "absent.so")
    assert run(code, HSPAN_LIBRARY=absent).stderr.count("hspan: attention runs in pure") == 1
    silent = "import logging; logging.getLogger('hspan').setLevel('ERROR'); " + code
    assert run(silent, HSPAN_LIBRARY=absent).stderr == ""


def test_import_does_not_load_it(built):
    assert run("import hspan.ops._library as l; print(l._load.cache_info().misses)").stdout == "0\n"


def tool(name: str, *arguments: str | Path) -> str:
    if sys.platform != "linux" or shutil.which(name) is None:
        pytest.skip(f"needs {name} and an ELF library")
    return subprocess.run([name, *arguments], capture_output=True, text=True, check=True).stdout


def test_only_the_c_functions_are_visible(built):
    lines = tool("nm", "--dynamic", "--defined-only", built).splitlines()
    symbols = [line.split()[-1] for line in lines]
    assert "hspan_abi_version" in symbols
    assert [name for name in symbols if not name.startswith("hspan_")] == []


def test_baseline_code_has_no_newer_instructions(built):
    """Code outside the namespaces of the levels runs on every machine.

    An inline function outside the namespaces that a level's object also holds is linked once; the
    copy must be the baseline's. Clones are exempt: the compiler makes them for one object alone.
    """
    if compiled_sets() == ["portable"]:
        pytest.skip("built for one instruction set only")
    listing = tool("objdump", "--disassemble", "--demangle", "--no-show-raw-insn", built)
    newer = re.compile(r"%[yzt]mm\d|%k[0-7]\b|\t\s*v[a-z]\w* ")
    with_newer: set[str] = set()
    function = ""
    for line in listing.splitlines():
        if heading := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            function = heading[1]
        elif newer.search(line):
            with_newer.add(function)
    levels = {f"isa_{name}" for name in compiled_sets()} - {"isa_portable"}
    found = {name: levels & set(re.findall(r"\bisa_\w+", name)) for name in with_newer}
    stray = [name for name, level in found.items() if not level and "[clone" not in name]
    assert stray == []
    assert set().union(*found.values()) == levels  # that the listing was understood

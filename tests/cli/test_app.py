import subprocess
import sys
import time

import pytest

from hspan import __version__
from hspan.cli import main
from hspan.cli.app import app
from hspan.errors import BackendUnavailable, InputError, UsageError, WeightsError


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hspan {__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["upscale", "--help"], ["upscale", "-h"]])
def test_help(words, capsys):
    assert main(words) == 0
    assert "Usage: hspan" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["upsacle"], ["upscale", "--scael", "2"], ["upscale", "-s", "x"]]
)
def test_misspelt_calls(words, capsys):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert words[-1] in captured.err or words[-2] in captured.err


@pytest.mark.parametrize(
    ("error", "status"),
    [(UsageError, 2), (InputError, 1), (WeightsError, 1), (BackendUnavailable, 1)],
)
def test_errors_become_a_sentence_and_a_status(error, status, capsys, monkeypatch):
    def fail():
        raise error("this is wrong: do that")

    command = next(c for c in app.registered_commands if c.name == "models")
    monkeypatch.setattr(command, "callback", fail)
    assert main(["models"]) == status
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hspan: this is wrong: do that\n")


def test_interruption_is_no_traceback(capsys, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    command = next(c for c in app.registered_commands if c.name == "models")
    monkeypatch.setattr(command, "callback", interrupt)
    assert main(["models"]) not in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


def test_help_is_instant():
    """0.5 s of this process's own time, imports included; a busy machine may take longer."""
    code = "import sys, time; from hspan.cli import main; main(['upscale', '--help']); "
    code += "print(time.process_time(), 'torch' in sys.modules, file=sys.stderr)"
    begin = time.perf_counter()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.perf_counter() - begin < 30
    seconds, torch_loaded = run.stderr.split()
    assert float(seconds) < 0.5
    assert torch_loaded == "False"

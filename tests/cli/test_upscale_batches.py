"""Trees, pipes, manifests and interruptions, as a shell sees them."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from hspan.cli import main
from hspan.cli._interruption import interruptible

RUN = [sys.executable, "-c", "import sys; from hspan.cli import main; sys.exit(main())"]
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and names of POSIX")


@pytest.fixture
def work(tmp_path, monkeypatch):
    """The folder in which the command runs, with a tree of three images."""
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/sub/b.jpg", "in/sub/c.png"):
        photo(name)
    return tmp_path


def photo(path, height=6, width=8):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(values).save(path)
    return path


def upscale(*words):
    return main(["upscale", *map(str, words), "-m", "bicubic", "--device", "cpu"])


def tree(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_tree(work, capsys):
    assert upscale("in", "-r", "-o", "out") == 0
    assert tree(work / "out") == ["a_x2.png", "sub/b_x2.jpg", "sub/c_x2.png"]
    assert capsys.readouterr().out.splitlines()[-1] == "3 done"
    assert upscale("in/**/*.png", "-o", "other") == 0
    assert tree(work / "other") == ["a_x2.png", "sub/c_x2.png"]
    assert upscale("in", "-r") == 0
    assert "in/sub/b_x2.jpg" in tree(work)


def test_skip_existing(work, capsys):
    assert upscale("in", "-o", "out") == 0
    (work / "out" / "a_x2.png").write_bytes(b"precious")
    capsys.readouterr()
    assert upscale("in", "-r", "-o", "out", "--skip-existing", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [entry["status"] for entry in report] == ["skipped", "done", "done"]
    assert (work / "out" / "a_x2.png").read_bytes() == b"precious"
    assert upscale("in", "-o", "out", "--skip-existing", "--overwrite") == 2


def test_a_manifest_says_what_is_done_and_what_failed(work, capsys):
    (work / "in" / "text.png").write_text("no image")
    words = ["in", "-r", "-o", "out", "--manifest", "m.jsonl"]
    assert upscale(*words) == 1
    lines = [json.loads(line) for line in (work / "m.jsonl").read_text().splitlines()]
    assert lines[0]["settings"]["scale"] == 2
    states = {line["source"]: line["state"] for line in lines[1:]}
    expected = {"a.png": "done", "text.png": "failed", "b.jpg": "done", "c.png": "done"}
    assert {os.path.basename(k): v for k, v in states.items()} == expected
    capsys.readouterr()
    assert upscale(*words) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "3 skipped, 1 failed"
    (work / "in" / "text.png").unlink()
    assert upscale(*words) == 0
    assert upscale(*words, "--quality", "50") == 2
    assert "belongs to a batch with quality 95, not 50" in capsys.readouterr().err


def test_failures_are_listed_at_the_end(work, capfd):
    for name in ("in/0.png", "in/sub/m.png"):
        (work / name).write_text("no image")
    assert upscale("in", "-r", "-o", "out") == 1
    captured = capfd.readouterr()
    assert captured.out.splitlines()[-1] == "3 done, 2 failed"
    assert ["0.png" in line for line in captured.err.splitlines()] == [True, False]


@posix
def test_names_that_command_terminals(work, capsys):
    photo("in/\x1b[2Jevil\n.png")
    assert upscale("in", "-o", "out") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert r"\x1b[2Jevil\n.png" in out
    assert len(out.splitlines()) == 3
    assert len(tree(work / "out")) == 2


def test_hidden_leftovers_of_nobody(work):
    upscale("in", "-r", "-o", "out")
    assert not [path for path in work.rglob(".*")]


class Standard(io.TextIOWrapper):
    """Standard input or output that keeps its bytes, without a file to close."""

    def __init__(self, content=b""):
        super().__init__(io.BytesIO(content))


@pytest.mark.parametrize(
    ("words", "stdin"),
    [(["-"], True), (["-", "-o", "-"], True), (["in/a.png", "-o", "-"], False)],
)
def test_pipes(work, words, stdin, monkeypatch):
    assert upscale("in/a.png") == 0
    out = Standard()
    monkeypatch.setattr(sys, "stdin", Standard((work / "in/a.png").read_bytes() if stdin else b""))
    monkeypatch.setattr(sys, "stdout", out)
    assert upscale(*words) == 0
    assert out.buffer.getvalue() == (work / "in/a_x2.png").read_bytes()


def test_standard_input_into_a_file_and_what_it_cannot_be(work, capsys, monkeypatch):
    def give(content):
        monkeypatch.setattr(sys, "stdin", Standard(content))

    image = (work / "in/a.png").read_bytes()
    give(image)
    assert upscale("-", "-o", "there.tif") == 0
    with Image.open("there.tif") as result:
        assert result.size == (16, 12)
    give(b"no image")
    assert upscale("-", "-o", "x.png") == 1
    assert "hspan: standard input isn't an image" in capsys.readouterr().err
    give(image)
    assert upscale("-", "-o", "there.tif") == 1
    assert upscale("-", "-o", "in") == 2
    assert upscale("-", "in/a.png") == 2
    assert upscale("-", "--json") == 2


def test_an_image_is_not_for_a_terminal(work, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert upscale("in/a.png", "-o", "-") == 2
    assert "send it on with" in capsys.readouterr().err


def test_bombs(work, capsys):
    assert upscale("in/a.png", "--max-pixels", "40") == 1
    assert "its header promises 8×6 pixels" in capsys.readouterr().err


@posix
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_are_remembered_once(number, status):
    before = signal.getsignal(number)
    with interruptible() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
        assert stop.status == status
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


@posix
def test_an_interruption_finishes_the_tile_and_the_same_call_goes_on(work):
    for i in range(8):
        photo(f"in/{i}.png", 60, 60)
    words = ["in", "-r", "-m", "bicubic", "--device", "cpu", "-t", "8", "--manifest", "m.jsonl"]
    assert main(["upscale", *words, "-o", "whole", "--manifest", "whole.jsonl"]) == 0
    process = subprocess.Popen(
        [*RUN, "upscale", *words, "-o", "out"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Jobs in a shell's background ignore the signal, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not list((work / "out").glob("*.png")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    if process.returncode != 0:  # it may have been quicker than the signal
        assert process.returncode == 130
        assert "interrupted: go on with the same call" in errors
    assert "Traceback" not in errors
    assert main(["upscale", *words, "-o", "out"]) == 0
    assert [(work / "out" / n).read_bytes() for n in tree(work / "out")] == [
        (work / "whole" / n).read_bytes() for n in tree(work / "whole")
    ]

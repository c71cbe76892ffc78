"""The command's own part; the page is tested in tests/web."""

import threading
from contextlib import contextmanager

import pytest

from hspan import web
from hspan.cli import main
from hspan.web import _serve


def test_without_its_packages(monkeypatch, capsys):
    monkeypatch.setattr(_serve, "find_spec", lambda name: None)
    assert main(["web"]) == 2
    assert "the page needs gradio: pip install 'hspan[web]'" in capsys.readouterr().err


@pytest.mark.parametrize("auth", ["ada", "ada:", ":secret"])
def test_half_a_password(auth, capsys):
    assert main(["web", "--auth", auth]) == 2
    assert "--auth wants USER:PASSWORD" in capsys.readouterr().err


@pytest.fixture
def calls(monkeypatch):
    """What the server is started with; it is interrupted at once."""
    found = []

    @contextmanager
    def served(**options):
        found.append(options)
        yield "http://here"

    here, wait = threading.current_thread(), threading.Event.wait

    def interrupt(self, timeout=None):
        if threading.current_thread() is here:
            raise KeyboardInterrupt
        return wait(self, timeout)  # a progress bar's thread, of another test, lives on

    monkeypatch.setattr(web, "served", served)
    monkeypatch.setattr("threading.Event.wait", interrupt)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return found


def test_this_computer_alone(calls, capsys):
    assert main(["web"]) == 0
    assert calls[0]["host"] == "127.0.0.1"
    assert calls[0]["port"] == 7860
    assert calls[0]["auth"] is None
    captured = capsys.readouterr()
    assert "serving at http://here" in captured.out
    assert captured.err == ""


def test_everybody_and_a_password(calls, capsys, monkeypatch):
    assert main(["web", "--host", "0.0.0.0", "--port", "0", "--megabytes", "5"]) == 0
    assert calls[0]["port"] is None
    assert calls[0]["limits"].megabytes == 5
    assert "everybody who reaches 0.0.0.0 can use this page" in capsys.readouterr().err
    monkeypatch.setenv("HSPAN_WEB_AUTH", "ada:a:b")
    assert main(["web", "--host", "0.0.0.0"]) == 0
    assert calls[1]["auth"] == ("ada", "a:b")
    assert capsys.readouterr().err == ""

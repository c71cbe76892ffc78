"""Starting and stopping the server."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from hspan.errors import InputError, UsageError
from hspan.web._limits import Limits
from hspan.web._service import Service
from hspan.web._workspace import Workspace

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@contextmanager
def served(
    *,
    host: str = "127.0.0.1",
    port: int | None = 7860,
    auth: tuple[str, str] | None = None,
    limits: Limits | None = None,
    models: Sequence[Path] = (),
    device: str = "auto",
) -> Generator[str]:
    """Serve the page while the ``with`` block runs.

    Args:
        host: the address to listen at; 127.0.0.1 is for this computer alone.
        port: None takes a free one.
        auth: user and password that visitors, and programs, must give.
        limits: what is refused.
        models: files of weights beside the shipped ones.
        device: where networks run.

    Yields:
        The address.

    Raises:
        UsageError: Gradio isn't installed, or a model can't be used.
        InputError: the port is taken.
    """
    check_installed()
    limits = limits or Limits()
    with Workspace() as workspace, _environment(workspace):
        service = Service(workspace, limits, models=models, device=device)
        from hspan.web._page import CSS, THEME, build

        page = build(service)
        page.queue(max_size=limits.queue, default_concurrency_limit=4)
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=_free_port(host) if port is None else port,
                auth=auth,
                max_file_size=limits.megabytes * 10**6,
                theme=THEME,
                css=CSS,
                footer_links=["api"],
                quiet=True,
                share=False,
                prevent_thread_lock=True,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                enable_monitoring=False,
            )
        except OSError as error:
            raise InputError(
                f"can't listen at {host}:{port} ({error}): choose another --port"
            ) from error
        try:
            yield address
        finally:
            page.close()


def check_installed() -> None:
    """Raise UsageError where a package of the page is missing."""
    for package in ("gradio", "matplotlib"):
        if find_spec(package) is None:
            raise UsageError(f"the page needs {package}: pip install 'hspan[web]'")


@contextmanager
def _environment(workspace: Workspace) -> Generator[None]:
    """Let Gradio keep uploads in the workspace, and send nothing to anybody."""
    wanted = {
        "GRADIO_TEMP_DIR": str(workspace.folder / "uploads"),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _free_port(host: str) -> int:
    import socket

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])

"""``hspan web``: the page, served from this computer."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from hspan.errors import UsageError


def web(
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="To listen at; 0: any free one.")
    ] = 7860,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="127.0.0.1: this computer alone; 0.0.0.0: all.")
    ] = "127.0.0.1",
    auth: Annotated[
        str | None,
        typer.Option(
            metavar="USER:PASSWORD",
            envvar="HSPAN_WEB_AUTH",
            help="What visitors must give.",
            show_default="nothing",
        ),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option("-m", "--model", metavar="FILE", help="Weights to offer too; again for more."),
    ] = None,
    device: Annotated[
        str, typer.Option("-d", "--device", metavar="D", help="auto, cpu, cuda, cuda:1, mps...")
    ] = "auto",
    megabytes: Annotated[
        int, typer.Option(min=1, metavar="N", help="Largest file that is accepted.")
    ] = 64,
    megapixels: Annotated[
        float, typer.Option(min=0.01, metavar="N", help="Largest image, before it is enlarged.")
    ] = 4.0,
    queue: Annotated[
        int, typer.Option(min=1, metavar="N", help="Requests that may wait for their turn.")
    ] = 16,
) -> None:
    """Serve a page that enlarges images and says where their pixels came from.

    It needs `pip install 'hspan[web]'`, and stops with Ctrl-C; what was uploaded is removed then.
    """
    pair = _pair(auth)

    from hspan.web import LOOPBACK, Limits, served

    if host not in LOOPBACK and pair is None:
        print(
            f"hspan: note: everybody who reaches {host} can use this page; --auth asks for a "
            "password",
            file=sys.stderr,
        )
    signal.signal(signal.SIGTERM, _leave)  # so that files are removed then too
    with served(
        host=host,
        port=port or None,
        auth=pair,
        limits=Limits(megabytes=megabytes, megapixels=megapixels, queue=queue),
        models=tuple(model or ()),
        device=device,
    ) as address:
        print(f"hspan: serving at {address} (Ctrl-C stops)", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


def _leave(number: int, frame: object) -> None:
    sys.exit(0)


def _pair(auth: str | None) -> tuple[str, str] | None:
    if auth is None:
        return None
    user, colon, password = auth.partition(":")
    if not (user and colon and password):
        raise UsageError("--auth wants USER:PASSWORD, neither of them empty")
    return user, password

"""The command line's frame: subcommands, exit statuses, errors as one sentence.

Exit status 0: all done; 1: some input failed; 2: the call itself was wrong.
Subcommands import the library inside their functions, so that ``--help`` never waits for torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from hspan._version import __version__
from hspan.cli import (
    bench,
    convert,
    data,
    eval,
    explain,
    export,
    models,
    reproduce,
    train,
    upscale,
    web,
)
from hspan.errors import HspanError, UsageError

app = typer.Typer(
    name="hspan",
    help="Exact sparse non-local attention for image super-resolution.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("upscale")(upscale.upscale)
app.command("eval")(eval.evaluate)
app.command("explain")(explain.explain)
app.command("web")(web.web)
app.command("train")(train.train)
app.command("models")(models.models)
app.command("reproduce")(reproduce.reproduce)
app.command("convert")(convert.convert)
app.command("export")(export.export)
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")


def _print_version(value: bool) -> None:
    if value:
        print(f"hspan {__version__}")
        raise typer.Exit


@app.callback()
def _root(  # pyright: ignore[reportUnusedFunction] (typer calls it)
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line in this process.

    Args:
        arguments: the words after ``hspan``; None takes them from ``sys.argv``.

    Returns:
        The exit status: 0, 1 or 2 as described above.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # Standalone mode prints the parser's own complaints and always ends in SystemExit;
        # a subcommand that must report failed inputs raises typer.Exit(1).
        app(words, prog_name="hspan")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except UsageError as error:
        print(f"hspan: {error}", file=sys.stderr)
        return 2
    except HspanError as error:
        print(f"hspan: {error}", file=sys.stderr)
        return 1
    return 0


def entry_point() -> None:
    """Console script: run ``main`` and leave with its status."""
    sys.exit(main())

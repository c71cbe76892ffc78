"""TEMPORARY: replaced by its owner."""

import typer

app = typer.Typer(help="Check and prepare folders of images.", no_args_is_help=True)


@app.command("check")
def check() -> None:
    """Not written yet."""

"""The ``hspan`` command: one file per subcommand, each parsing, calling the library, printing."""

from hspan.cli.app import entry_point, main

__all__ = ["entry_point", "main"]

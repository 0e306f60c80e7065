"""The command line: parse, call the application, print. Importing this package imports nothing heavy."""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with the documented code."""
    from knowledge_system.interfaces.cli.app import run

    sys.exit(run(sys.argv[1:] if argv is None else argv))

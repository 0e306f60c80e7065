"""The command line: parse, call the application, print. Importing this package imports nothing heavy."""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with the documented code; hooks take a way of their own, without its imports."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["hook"]:
        from knowledge_system.interfaces.hooks.entry import run as run_hook

        sys.exit(run_hook(arguments[1:]))
    try:
        from knowledge_system.interfaces.cli.app import run
    except KeyboardInterrupt:  # nothing has begun
        sys.exit(130)
    sys.exit(run(arguments))

"""The application of the command line: global options, commands, and the mapping of errors to exit codes."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer
from typer import Context, Option
from typer.exceptions import TyperException

from knowledge_system.domain.errors import DependencyUnavailable, KnowledgeError, UsageError
from knowledge_system.interfaces.cli import (
    cache,
    connect,
    doctor,
    index,
    ingest,
    injection,
    items,
    mcp,
    money,
    operate,
    overrides,
    portable,
    search,
    serve,
    service,
    trajectory,
)
from knowledge_system.interfaces.cli.invocation import Invocation, print_error

INTERRUPTED = 130
GLOBAL_FLAGS = frozenset({"--json", "-v", "--verbose"})
GLOBAL_VALUES = frozenset({"--home", "--config"})

app = typer.Typer(
    name="knowledge",
    help="Learn from coding sessions, and get the knowledge back in milliseconds.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:  # noqa: FBT001 -- the signature of an option callback
    if wanted:
        from knowledge_system import __version__

        typer.echo(f"knowledge {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: Context,
    home: Annotated[Path | None, Option(help="Data directory (KNOWLEDGE_HOME).")] = None,
    config: Annotated[Path | None, Option(help="Configuration file (KNOWLEDGE_CONFIG).")] = None,
    as_json: Annotated[bool, Option("--json", help="Print exactly one JSON document on stdout.")] = False,
    verbose: Annotated[bool, Option("--verbose", "-v", help="Log what happens on stderr.")] = False,
    version: Annotated[bool, Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Hold the global options; they may stand before or after the command."""
    del version
    context.obj = Invocation(home=home, config=config, as_json=as_json, verbose=verbose)


for module in (
    ingest,
    search,
    items,
    portable,
    operate,
    index,
    doctor,
    overrides,
    money,
    serve,
    cache,
    injection,
    mcp,
    connect,
    service,
    trajectory,
):
    module.register(app)


def hoisted(argv: list[str]) -> list[str]:
    """Return `argv` with global options moved to the front, so that `knowledge search x --json` works too."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            rest.extend([word, *words])
        elif word in GLOBAL_FLAGS or ("=" in word and word.partition("=")[0] in GLOBAL_VALUES):
            front.append(word)
        elif word in GLOBAL_VALUES:
            front.extend([word, *([value] if (value := next(words, None)) is not None else [])])
        else:
            rest.append(word)
    return [*front, *rest]


def run(argv: list[str]) -> int:  # noqa: PLR0911 -- one return a kind of failure
    """Run one command and return its exit code."""
    arguments = hoisted(argv)
    as_json = "--json" in arguments
    verbose = bool({"-v", "--verbose"} & set(arguments))
    try:
        return _invoke(arguments)
    except KnowledgeError as error:
        print_error(error, as_json=as_json)
        _trace(verbose=verbose)
        return error.exit_code
    except TyperException as error:
        return _usage(error.format_message(), as_json=as_json)
    except (KeyboardInterrupt, EOFError, typer.Abort):
        sys.stderr.write("knowledge: interrupted; what was stored stays, run the command again to go on\n")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _system_error(error, as_json=as_json, verbose=verbose)
    except Exception as error:  # noqa: BLE001 -- the edge: whatever happens ends in one line and a code
        unexpected = KnowledgeError(
            f"unexpected failure: {type(error).__name__}: {error}", hint="run again with -v and report what it prints"
        )
        print_error(unexpected, as_json=as_json)
        _trace(verbose=verbose)
        return unexpected.exit_code


def _invoke(arguments: list[str]) -> int:
    try:
        result = app(args=arguments, prog_name="knowledge", standalone_mode=False)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # whoever reads has seen enough: no failure
            return 0
        raise
    if result == INTERRUPTED:  # typer's answer to a KeyboardInterrupt
        raise KeyboardInterrupt
    sys.stdout.flush()
    return result if isinstance(result, int) else 0


def _usage(message: str, *, as_json: bool) -> int:
    """Tell what is wrong with the arguments; a command that needs another one answers with its help."""
    if message.startswith("Usage:") and not as_json:
        sys.stderr.write(f"{message}\n")
    else:
        print_error(UsageError(message, hint="see `knowledge --help`"), as_json=as_json)
    return UsageError.exit_code


def _system_error(error: OSError, *, as_json: bool, verbose: bool) -> int:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    place = f" ({error.filename})" if error.filename else ""
    hint = "free some space on that disk, then run the command again" if full else "check the path, its owner and mode"
    known = DependencyUnavailable(f"{error.strerror or error}{place}", hint=hint)
    print_error(known, as_json=as_json)
    _trace(verbose=verbose)
    return known.exit_code


def _trace(*, verbose: bool) -> None:
    if verbose:
        traceback.print_exc()

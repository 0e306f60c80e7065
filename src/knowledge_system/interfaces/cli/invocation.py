"""What every command shares: the global options, how the system is opened, how results and errors are printed."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from knowledge_system.domain.errors import KnowledgeError, RefusedByPolicy, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from knowledge_system.application.system import KnowledgeSystem
    from knowledge_system.settings import Settings

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Invocation:
    """The global options of one call."""

    home: Path | None
    config: Path | None
    as_json: bool
    verbose: bool

    def settings(self) -> Settings:
        """Read the configuration."""
        from knowledge_system.application.configuration import load

        return load(self.home, self.config)

    def run(self, purpose: str, verb: Callable[[KnowledgeSystem], Awaitable[Result]], *, alone: bool = False) -> Result:
        """Open the system, run `verb` on it, close it; `alone`: not through a running service."""
        return asyncio.run(self.call(purpose, verb, alone=alone))

    async def call(
        self, purpose: str, verb: Callable[[KnowledgeSystem], Awaitable[Result]], *, alone: bool = False
    ) -> Result:
        """As `run`, for a command that has a loop of its own."""
        from knowledge_system.application.logs import configure
        from knowledge_system.application.system import opened

        emit = configure(verbose=self.verbose)
        async with opened(self.settings(), purpose, emit, alone=alone) as system:
            return await verb(system)

    def show(self, document: Any, render: Callable[[Any], None]) -> None:
        """Print `document`: one JSON document, or rendered for a person."""
        if self.as_json:
            print_json(document)
        else:
            render(document)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before something is destroyed. Raises RefusedByPolicy without consent or a terminal to ask at."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise RefusedByPolicy(f"not confirmed: {question}", hint="repeat with --yes")
        if not typer.confirm(question, err=True):
            raise RefusedByPolicy("not confirmed", hint="nothing was changed")


def current(context: typer.Context) -> Invocation:
    """Return the invocation of a command."""
    found = context.find_object(Invocation)
    if found is None:
        raise UsageError("the command was called without its application", hint="call `knowledge`")
    return found


def print_json(document: Any) -> None:
    """Print one JSON document on a line of its own."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, separators=(", ", ": ")) + "\n")


def print_error(error: KnowledgeError, *, as_json: bool) -> None:
    """Print an error: one line and its hint on stderr; with `--json` the document on stdout too."""
    if as_json:
        print_json({"error": {"code": error.code, "message": error.message, "hint": error.hint}})
    hint = f" — {error.hint}" if error.hint else ""
    sys.stderr.write(f"knowledge: {error.message}{hint}\n")


def one_of(value: str, allowed: Sequence[str], option: str) -> str:
    """Return `value` when it is allowed. Raises UsageError naming the choices."""
    if value not in allowed:
        raise UsageError(f"{option} {value!r} is not known", hint=f"one of: {', '.join(allowed)}")
    return value

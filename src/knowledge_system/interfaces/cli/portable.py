"""`knowledge export` and `knowledge import`."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Context, Option

from knowledge_system.domain.errors import NotFound, RefusedByPolicy
from knowledge_system.domain.search import Scope
from knowledge_system.interfaces.cli.invocation import current, one_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from knowledge_system.application.system import KnowledgeSystem


def export(
    context: Context,
    scope: Annotated[str, Option(help="items, exchanges or all.")] = "all",
    output: Annotated[Path | None, Option("--output", "-o", help="File to write instead of stdout.")] = None,
    overwrite: Annotated[bool, Option("--yes", "-y", help="Overwrite an existing file.")] = False,
) -> None:
    """Write everything as JSONL, one record a line with its kind."""
    chosen = Scope(one_of(scope, list(Scope), "--scope"))
    if output is not None and output.exists() and not overwrite:
        raise RefusedByPolicy(f"{output} exists", hint="repeat with --yes to overwrite it")
    invocation = current(context)
    with _target(output) as file:
        count = invocation.run("export", lambda system: _write(system, chosen, file))
    typer.echo(f"{count} records exported", err=True)


def import_(
    context: Context, source: Annotated[Path, Argument(metavar="FILE", help="An export; `-`: standard input.")]
) -> None:
    """Read what `export` wrote. What is known already stays as it is."""
    invocation = current(context)
    if str(source) != "-" and not source.is_file():
        raise NotFound(f"no export at {source}", hint="name a file that `knowledge export` wrote")
    with _source(source) as lines:
        document = invocation.run("import", lambda system: system.import_(lines))
    invocation.show(document, lambda shown: typer.echo(f"{shown['new']} new records, {shown['known']} known"))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(export)
    app.command("import")(import_)


async def _write(system: KnowledgeSystem, scope: Scope, file: TextIO) -> int:
    import json

    count = 0
    async for record in system.export(scope):
        file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
        count += 1
    return count


@contextmanager
def _target(path: Path | None) -> Iterator[TextIO]:
    """Yield stdout, or a private file that appears under its name only when it is complete."""
    if path is None:
        yield sys.stdout
        return
    fresh = path.with_name(f".{path.name}.part")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    try:
        with fresh.open("w", encoding="utf-8") as file:
            yield file
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


@contextmanager
def _source(path: Path) -> Iterator[TextIO]:
    if str(path) == "-":
        yield sys.stdin
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        yield file

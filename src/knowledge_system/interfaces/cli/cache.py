"""`knowledge cache`: what the caches did, preparing them, emptying them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Context, Option

from knowledge_system.domain.errors import DependencyUnavailable, NotFound, UsageError
from knowledge_system.interfaces.cli.invocation import current

if TYPE_CHECKING:
    from knowledge_system.application.system import KnowledgeSystem

cache_app = typer.Typer(help="The caches of model calls and questions: stats, warm, clear.", no_args_is_help=True)
MOST_BYTES = 4_000_000
"""Size of a list of questions: a thousand of the longest that a search reads."""


@cache_app.command("stats")
def cache_stats(
    context: Context, days: Annotated[int, Option(help="Count the last so many days (UTC), today included.")] = 30
) -> None:
    """Show hits by level, misses, hit rate and savings of all processes, and what the levels hold."""

    async def verb(system: KnowledgeSystem) -> Any:
        from knowledge_system.application import cache

        return await cache.cache_stats(system.parts, days)

    invocation = current(context)
    invocation.show(invocation.run("cache stats", verb), _render_stats)


@cache_app.command("warm")
def cache_warm(
    context: Context,
    file: Annotated[Path | None, Option(help="Prepare the questions of this file, one a line.")] = None,
    limit: Annotated[int, Option(help="At most so many questions.")] = 100,
    days: Annotated[int, Option(help="Without --file: the questions asked most in the last so many days.")] = 7,
) -> None:
    """Prepare the questions that are asked most, so that the next search for one is faster; costs nothing."""
    queries = None if file is None else _lines(file)
    invocation = current(context)
    document = invocation.run("cache warm", lambda system: system.cache_warm(queries, limit, days))
    invocation.show(document, _render_warm)


@cache_app.command("clear")
def cache_clear(context: Context, yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False) -> None:
    """Empty both levels, in every process that shares the database, and drop the prepared questions."""

    async def verb(system: KnowledgeSystem) -> Any:
        from knowledge_system.application import cache

        return await cache.cache_clear(system.parts)

    invocation = current(context)
    invocation.confirm("Empty the caches? Answers that were paid for will be asked for again.", yes=yes)
    invocation.show(invocation.run("cache clear", verb), _render_clear)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(cache_app, name="cache")


def _lines(path: Path) -> list[str]:
    """Return the questions of a file. Raises NotFound, UsageError or DependencyUnavailable saying what is wrong."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path} is larger than {MOST_BYTES} bytes", hint="give the questions that matter")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}", hint="one question a line") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8", hint="one question a line, as UTF-8 text") from error
    except IsADirectoryError:
        raise UsageError(f"{path} is a directory", hint="name a file with one question a line") from None
    except OSError as error:
        raise DependencyUnavailable(f"cannot read {path}: {error.strerror}", hint="check its owner and mode") from error
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    if not lines:
        raise UsageError(f"{path} holds no question", hint="one question a line")
    return lines


def _render_stats(document: dict[str, Any]) -> None:
    rate = "no requests that can be cached" if document["hit_rate"] is None else f"{document['hit_rate']:.1%} hits"
    typer.echo(f"last {document['days']} days: {document['requests']} requests, {rate}, ${document['saved']:.4f} saved")
    typer.echo("  " + ", ".join(f"{name} {count}" for name, count in document["results"].items()))
    for row in document["operations"]:
        share = "" if row["hit_rate"] is None else f"{row['hit_rate']:.1%} hits"
        typer.echo(f"  {row['operation']:<20} {row['requests']:>8} requests  {share:>12}  ${row['saved']:.4f} saved")
    _render_levels(document)


def _render_levels(document: dict[str, Any]) -> None:
    l1, l2 = document["l1"], document["l2"]
    entries = "" if l2["entries"] is None else f", {l2['entries']} entries"
    typer.echo(f"memory: {l1['entries']} entries, {l1['bytes'] / 1e6:.1f} MB, in {l1['processes']} processes")
    typer.echo(f"shared: {l2['state']}{entries}; questions prepared: {document['kept_questions']}")


def _render_warm(document: dict[str, Any]) -> None:
    for row in document["results"]:
        typer.echo(
            f"{row['outcome']:<10} {row['query'] or '(not shown)'}{' · ' + row['reason'] if 'reason' in row else ''}"
        )
    hidden = f", {document['hidden']} more are sensitive and known by their hash only" if document["hidden"] else ""
    typer.echo(
        f"{document['queries']} questions ({document['source']}): {document['warmed']} prepared, "
        f"{document['known']} known, {document['failed']} failed{hidden}"
    )


def _render_clear(document: dict[str, Any]) -> None:
    l1, shared = document["l1"], document["l2"]["entries"]
    typer.echo(
        f"emptied: {l1['entries']} entries in the memory of {l1['processes']} processes, "
        f"{'no' if shared is None else shared} shared ones, {document['kept_questions']} prepared questions"
    )

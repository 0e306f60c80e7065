"""`knowledge ingest`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Context, Option

from knowledge_system.domain.clock import SystemClock
from knowledge_system.domain.errors import (
    INDEX_AWAY,
    DependencyUnavailable,
    IndexUnavailable,
    ModelUnavailable,
    NotFound,
    UsageError,
)
from knowledge_system.interfaces.cli.invocation import Invocation, current, print_error
from knowledge_system.interfaces.cli.progress import progress_bar
from knowledge_system.interfaces.cli.values import counted, moment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from watchfiles import Change

    from knowledge_system.application.options import IngestOptions
    from knowledge_system.domain.errors import KnowledgeError

_ADDED, _DELETED = 1, 3
SHOWN = 10
"""Skipped files and warnings printed one by one; the rest is counted."""


def ingest(
    context: Context,
    paths: Annotated[list[Path], Argument(help="Transcript files, or directories of them.")],
    project: Annotated[str | None, Option(help="Project of all sessions read, instead of what they say.")] = None,
    agent: Annotated[str | None, Option(help="Agent of all sessions read.")] = None,
    since: Annotated[str | None, Option(help="Leave out exchanges before this time (2026-01-31, 7d).")] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Read and redact, store nothing.")] = False,
    watch: Annotated[bool, Option("--watch", help="Go on ingesting what changes until interrupted.")] = False,
) -> None:
    """Read coding sessions of all known formats; learn from them."""
    from knowledge_system.application.options import IngestOptions

    invocation = current(context)
    options = IngestOptions(
        project=project, agent=agent, since=moment(since, "--since", SystemClock()), dry_run=dry_run
    )
    watched = [path for path in paths if path.exists()] if watch else []
    _complain(asyncio.run(_rounds(invocation, paths, options, watched)), paths)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ingest)


def _complain(document: dict[str, Any], paths: list[Path]) -> None:
    """Exit with the documented code when something named on the command line could not be used at all."""
    failure: KnowledgeError | None = None
    reasons = {row["path"]: row["reason"] for row in document["skipped"]}
    absent = [path for path in paths if not path.exists()]
    named = [path for path in paths if path.is_file() and str(path) in reasons]
    rest = "everything else was ingested" if document["sessions"]["found"] else "nothing was ingested"
    if document["degraded"]:
        why = document["degraded"][0]
        away = why.startswith(INDEX_AWAY)
        done = "stored, not in the index and not learned yet" if away else "stored and findable by words, not learned"
        failure = (IndexUnavailable if away else ModelUnavailable)(f"{done}: {why}")
    elif absent:
        failure = NotFound(f"no such path: {', '.join(map(str, absent))}", hint=rest)
    elif named and not os.access(named[0], os.R_OK):
        failure = DependencyUnavailable(f"{named[0]}: {reasons[str(named[0])]}", hint="check the file's permissions")
    elif named:
        failure = UsageError(f"{named[0]}: {reasons[str(named[0])]}", hint=rest)
    if failure is not None:
        print_error(failure, as_json=False)
        raise typer.Exit(failure.exit_code)


async def _rounds(
    invocation: Invocation, paths: list[Path], options: IngestOptions, watched: list[Path]
) -> dict[str, Any]:
    """Ingest `paths`, then for ever what changes in those that are `watched`; without any, return what was done.

    Watching begins before anything is read, so nothing is missed that is written meanwhile. The data directory is free
    between two rounds, so that searches can run.
    """
    changes = _changes(watched)
    following = asyncio.ensure_future(anext(changes)) if watched else None
    await asyncio.sleep(0)  # it watches from here on
    document = await _once(invocation, paths, options)
    while following is not None:
        changed = await following
        following = asyncio.ensure_future(anext(changes))
        document = await _once(invocation, changed, options)
    return document


async def _once(invocation: Invocation, paths: list[Path], options: IngestOptions) -> dict[str, Any]:
    with progress_bar(wanted=not invocation.as_json) as progress:
        document = await invocation.call("ingest", lambda system: system.ingest(paths, options, progress))
    invocation.show(document, render)
    return document


async def _changes(watched: list[Path]) -> AsyncIterator[list[Path]]:
    """Yield the files that changed since the time before."""
    from watchfiles import awatch

    async for changes in awatch(*watched, watch_filter=_appeared):
        yield sorted({Path(name) for _, name in changes})


def _appeared(change: Change, name: str) -> bool:
    """Tell whether a change brings something to read: what is new, or a file that was written; nothing that went away.

    A new directory is announced before it is watched, and may hold transcripts by then.
    """
    return change.value == _ADDED or (change.value != _DELETED and not Path(name).is_dir())


def render(document: dict[str, Any]) -> None:
    """Print what an ingest did."""
    sessions, exchanges, items = document["sessions"], document["exchanges"], document["items"]
    levels = document["sensitivity"]
    typer.echo(
        f"{sessions['found']} sessions: {sessions['ingested']} ingested, {sessions['unchanged']} unchanged, "
        f"{counted(sessions['failed'], 'file')} skipped"
    )
    grown = f", {exchanges['updated']} grown" if exchanges["updated"] else ""
    typer.echo(f"{exchanges['new']} new exchanges, {exchanges['known']} known{grown}")
    typer.echo(
        f"{items['created']} items learned, {items['merged']} merged, {items['superseded']} superseded; "
        f"{items['rejected']} exchanges taught nothing lasting and stay searchable as exchanges"
    )
    typer.echo(f"{counted(levels['redactions'], 'redaction')} of secrets and personal data{_levels(levels)}")
    for line in _model(document.get("model", {})):
        typer.echo(line)
    for title, rows in (("skipped", document["skipped"]), ("warning", document["warnings"])):
        for row in rows[:SHOWN]:
            typer.echo(
                f"  {title}: {row['path']}{' ' + row['place'] if 'place' in row else ''}: {row['reason']}", err=True
            )
        if len(rows) > SHOWN:
            typer.echo(f"  … and {len(rows) - SHOWN} more; --json lists them all", err=True)
    typer.echo(f"done in {document['seconds']:.1f} s")


def _model(model: dict[str, Any]) -> Iterator[str]:
    """Yield what asking a model came to; nothing when none was asked."""
    if model.get("calls") or model.get("fallbacks"):
        found = model["exchanges"]
        yield (
            f"asked a model about {found['asked']} exchanges in {model['answered']} answered calls for "
            f"${model['cost']:.4f}: {found['kept']} items of its wording, {found['dismissed']} dismissed, "
            f"{found['disbelieved']} not believed"
        )
    for row in model.get("fallbacks", []):
        yield f"  {row['count']} without a model: {row['reason']}{': ' + row['detail'] if row['detail'] else ''}"


def _levels(levels: dict[str, int]) -> str:
    names = [name for name in ("public", "internal", "confidential", "secret") if levels[name]]
    return "; levels: " + ", ".join(f"{levels[name]} {name}" for name in names) if names else ""

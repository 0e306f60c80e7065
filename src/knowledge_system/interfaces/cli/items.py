"""`knowledge show`, `list`, `sessions`, `forget`, `supersede`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer import Argument, Context, Option

from knowledge_system.domain.errors import UsageError
from knowledge_system.domain.truth import Page
from knowledge_system.interfaces.cli.invocation import current, one_of

MAX_LIMIT = 1000


def show(context: Context, identity: Annotated[str, Argument(metavar="ID", help="Id of an item or exchange.")]) -> None:
    """Show an item with its evidence, or an exchange."""
    invocation = current(context)
    invocation.show(invocation.run("show", lambda system: system.show(identity)), _render_record)


def list_(
    context: Context,
    kind: Annotated[str, Option(help="items, exchanges or sessions.")] = "items",
    type_: Annotated[str | None, Option("--type", help="Only items of this type.")] = None,
    project: Annotated[str | None, Option(help="Only this project.")] = None,
    session: Annotated[str | None, Option(help="Only this session.")] = None,
    limit: Annotated[int, Option(help="Rows of a page.")] = 50,
    after: Annotated[str | None, Option(help="Cursor `next` of the page before.")] = None,
    include_deprecated: Annotated[bool, Option("--include-deprecated", help="Also superseded and deprecated.")] = False,
) -> None:
    """List what is stored, newest first."""
    if not 1 <= limit <= MAX_LIMIT:
        raise UsageError(f"--limit {limit} is out of range", hint=f"1 to {MAX_LIMIT}")
    page = Page(limit, after, project, type_, session, include_deprecated)
    chosen = one_of(kind, ("items", "exchanges", "sessions"), "--kind")
    invocation = current(context)
    invocation.show(invocation.run("list", lambda system: system.list(chosen, page)), _render_page)


def sessions(
    context: Context,
    project: Annotated[str | None, Option(help="Only this project.")] = None,
    limit: Annotated[int, Option(help="Rows of a page.")] = 50,
    after: Annotated[str | None, Option(help="Cursor `next` of the page before.")] = None,
) -> None:
    """List sessions, newest first."""
    list_(context, kind="sessions", project=project, limit=limit, after=after)


def forget(
    context: Context,
    ids: Annotated[list[str], Argument(metavar="ID…", help="Ids of items or exchanges.")],
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Erase items or exchanges for good.

    What rests on them alone goes too; later ingests do not bring them back.
    """
    invocation = current(context)
    invocation.confirm(f"Erase {', '.join(ids)} for good?", yes=yes)
    document = invocation.run("forget", lambda system: system.forget(ids))
    invocation.show(document, lambda shown: typer.echo(f"{shown['forgotten']} erased"))


def supersede(
    context: Context,
    old: Annotated[str, Argument(metavar="OLD", help="Item that is no longer right.")],
    new: Annotated[str, Argument(metavar="NEW", help="Item that replaces it.")],
) -> None:
    """Mark an item as replaced by another: searches show the new."""
    invocation = current(context)
    document = invocation.run("supersede", lambda system: system.supersede(old, new))
    invocation.show(
        document, lambda shown: typer.echo(f"{shown['superseded']} is superseded by {shown['superseded_by']}")
    )


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(show)
    app.command("list")(list_)
    app.command()(sessions)
    app.command()(forget)
    app.command()(supersede)


def _render_page(document: dict[str, Any]) -> None:
    width = max((len(row["id"]) for row in document["results"]), default=0)
    for row in document["results"]:
        when = (row.get("created_at") or row.get("timestamp") or row.get("started_at") or "")[:10]
        label = row.get("type") or row["kind"]
        title = row.get("title") or row.get("user", "").strip().split("\n")[0]
        typer.echo(f"{row['id']:<{width}}  {when:<10}  {label:<23} {row['project']:<20.20} {title[:90]}".rstrip())
    if document["next"]:
        typer.echo(f"more: --after {document['next']}", err=True)
    if not document["results"]:
        typer.echo("nothing here yet: `knowledge ingest PATH` reads sessions", err=True)


def _render_record(record: dict[str, Any]) -> None:
    if record["kind"] == "exchange":
        typer.secho(f"{record['id']} · {record['project']} · {record['path']} #{record['exchange_index']}", dim=True)
        typer.echo(f"\nUSER\n{record['user']}\n\nASSISTANT\n{record['assistant']}")
        for tool in record["tools"]:
            typer.secho(f"\n[{tool['name']}] {tool['input'][:300]}\n{tool['output'][:600]}", dim=True)
        return
    typer.secho(record["title"], bold=True)
    typer.secho(
        f"{record['type']} · {record['project']} · {record['created_at'][:10]} ({record['freshness']}) · "
        f"confidence {record['confidence']:.2f} · support {record['support']} · {record['status']} · {record['id']}",
        dim=True,
    )
    typer.echo(f"\n{record['content']}\n\nEvidence:")
    for evidence in record["evidence"]:
        typer.echo(f"  {evidence['exchange_id']} ({evidence['field']}): “{evidence['quote'].strip()[:200]}”")
    for source in record["source"]:
        typer.secho(f"  {source['path']} #{source['exchange_index']}", dim=True)
